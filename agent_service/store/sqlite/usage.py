"""The statements for sums of usage in a SQLite journal: to add, to query, and to fill them for the first time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from agent_service.journal.event_rules import RULES
from agent_service.journal.usage import HOUR_S, Amounts, count
from agent_service.store.usage import Tally, UsageQuery, UsageRow
from agent_service.v1.task_event_pb2 import TaskEvent

ADDING = ", ".join(f"{column} = {column} + excluded.{column}" for column in Amounts._fields)
ADD_USAGE = f"INSERT INTO usage VALUES {{rows}} ON CONFLICT (tenant, hour, agent, model) DO UPDATE SET {ADDING}"  # noqa: S608 - names of ours
SUMS = ", ".join(f"sum({column})" for column in Amounts._fields)
PAYLOADS = "SELECT payload FROM events WHERE task_key = ? ORDER BY sequence"
TASKS = "SELECT task_key, tenant, agent FROM tasks ORDER BY task_key"


def usage(reader: sqlite3.Connection, query: UsageQuery) -> list[UsageRow]:
    """See `UsageLedger.usage`."""
    sql, values = asking(query)
    return [
        UsageRow(hour, tenant, agent, model, Amounts(*amounts))
        for hour, tenant, agent, model, *amounts in reader.execute(sql, values).fetchall()
    ]


def asking(query: UsageQuery) -> tuple[str, list[object]]:
    """Return the statement for a query, with its values."""
    conditions, values = ["1"], list[object]()
    for condition, value in (
        ("tenant = ?", query.tenant),
        ("agent = ?", query.agent or None),
        ("model = ?", query.model or None),
        ("hour >= ?", query.since_hour),
        ("hour < ?", query.before_hour),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    hour = f"hour - hour % {query.bucket_hours:d}" if query.bucket_hours else "0"
    groups = [hour, *(column if column in query.group_by else "''" for column in ("tenant", "agent", "model"))]
    # Every part is a constant name or a number; values of callers are bound.
    sql = (
        f"SELECT {', '.join(groups)}, {SUMS} FROM usage WHERE {' AND '.join(conditions)}"  # noqa: S608
        " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT ?"
    )
    return sql, [*values, query.limit]


def payloads_of(cursor: sqlite3.Cursor, task_key: int) -> Iterator[bytes]:
    """Return the stored events of a task."""
    return (payload for (payload,) in cursor.execute(PAYLOADS, (task_key,)).fetchall())


def fill(connection: sqlite3.Connection) -> None:
    """Compute the sums from the journals of a store that had none; inside a transaction.

    Tasks that were erased before are not included.
    """
    tally = Tally()
    for task_key, tenant, agent in connection.execute(TASKS).fetchall():
        started: set[str] = set()
        model = ""
        for (payload,) in connection.execute(PAYLOADS, (task_key,)):
            try:
                event = TaskEvent.FromString(payload)
            except DecodeError:
                continue  # an unreadable event must not prevent opening the store
            rule = RULES.get(event.WhichOneof("event") or "")
            if rule is None or rule.used is None:
                continue
            used = rule.used(event, event.create_time.seconds // HOUR_S)
            if used is not None:
                model, sums = count([used], tenant=tenant, agent=agent, model=model, is_repeated=started.__contains__)
                for key, amounts in sums:
                    tally.add(key, amounts)
                started.add(used.call_id)
        connection.execute("UPDATE tasks SET asked = ? WHERE task_key = ?", (model, task_key))
    sql = ADD_USAGE.format(rows=f"({', '.join('?' * (4 + len(Amounts._fields)))})")
    connection.executemany(sql, [(*key, *amounts) for key, amounts in tally.rows()])

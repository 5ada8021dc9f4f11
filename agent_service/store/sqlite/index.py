"""Queries that find and erase tasks in a SQLite journal. Each runs outside the event loop's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from agent_service.journal.event_rules import TERMINAL
from agent_service.journal.payloads import event_of
from agent_service.journal.refusals import SessionBusyError
from agent_service.store.base import LAST_RESORT_US, Change, TaskPage, TaskQuery, TaskRow
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_INPUT_REQUIRED

# Exactly the conditions of the partial indexes.
UNFINISHED = "state NOT IN (4, 5, 6, 7)"
FINISHED = "state IN (4, 5, 6, 7)"

OF_REQUEST = """
    SELECT id FROM tasks WHERE tenant = ? AND request_id = ? AND request_id <> '' AND create_time > ?
"""
OVERDUE = f"""
    SELECT id FROM tasks WHERE {UNFINISHED} AND due <> 0 AND due <= ?1 AND (state <> 2 OR due <= ?1 - {LAST_RESORT_US})
    ORDER BY due LIMIT ?2
"""  # noqa: S608
WAITING = f"SELECT count(*) FROM tasks INDEXED BY tasks_unfinished WHERE {UNFINISHED} AND state = ?"  # noqa: S608
ROWS = """
    SELECT t.task_key, t.id, t.tenant, t.state, t.attempt, t.last_sequence,
        (SELECT payload FROM events WHERE task_key = t.task_key AND sequence = 1),
        (SELECT payload FROM events WHERE task_key = t.task_key AND sequence = t.last_sequence)
    FROM {tables} WHERE {conditions} ORDER BY {order} DESC LIMIT ?
"""
LABELED = """
    EXISTS (SELECT 1 FROM labels WHERE tenant = t.tenant AND key = ? AND value = ? AND task_key = t.task_key)
"""
KEYS_OF_SESSION = """
    SELECT task_key, state FROM tasks
    WHERE tenant = ? AND session_id = ? AND session_id <> '' AND task_key <= ? ORDER BY task_key
"""
# The index omits NULL, which a comparison excludes too. With another condition SQLite may scan the whole index.
FOLLOW = """
    SELECT id, last_sequence, position FROM tasks INDEXED BY tasks_by_position
    WHERE position > ? ORDER BY position LIMIT ?
"""
FIRST_EVENTS = "SELECT task_key, payload FROM events WHERE sequence = 1"
KEYS_FINISHED = f"SELECT task_key FROM tasks WHERE {FINISHED} AND update_time < ? ORDER BY update_time LIMIT ?"  # noqa: S608


def of_request(reader: sqlite3.Connection, tenant: str, request_id: str, since_us: int) -> str:
    """See `TaskIndex.of_request`."""
    found = reader.execute(OF_REQUEST, (tenant, request_id, since_us)).fetchall()
    return str(found[0][0]) if found else ""


def list_tasks(reader: sqlite3.Connection, query: TaskQuery) -> TaskPage:
    """See `TaskIndex.list_tasks`."""
    way, floor = _way_of(query), None
    if query.walked_max is not None and way.is_ordered and way.filters:
        found = reader.execute(*way.floor(query.before, query.walked_max)).fetchall()
        floor = found[0][0] if found else None
    rows = _rows(reader, *way.listing(query.before, floor, query.limit))
    return TaskPage(rows, rows[-1].cursor if len(rows) == query.limit else floor)


def find(reader: sqlite3.Connection, task_id: str) -> TaskRow | None:
    """See `TaskIndex.find`."""
    found = _rows(reader, ROWS.format(tables="tasks t", conditions="t.id = ?", order="t.task_key"), [task_id, 1])
    return found[0] if found else None


def _rows(reader: sqlite3.Connection, sql: str, values: Sequence[object]) -> list[TaskRow]:
    return [
        TaskRow(key, task_id, tenant, state, attempt, event_of(first, 1), event_of(last, last_sequence))
        for key, task_id, tenant, state, attempt, last_sequence, first, last in reader.execute(sql, values).fetchall()
    ]


@dataclass(slots=True)
class _Way:
    """The access path of a list: a table and its index in `source`, the rows that match `conditions`, in the order of
    `key`, which is the order of the index if it `is_ordered`. `filters` are checked for each of these rows.
    """

    source: str
    key: str = "t.task_key"
    join: str = ""
    is_ordered: bool = True
    conditions: list[str] = field(default_factory=list)
    values: list[object] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    filter_values: list[object] = field(default_factory=list)

    def floor(self, before: int | None, walked_max: int) -> tuple[str, list[object]]:
        """Return the statement for the last of `walked_max` tasks, with its values. It reads only the index."""
        conditions, values = self._before(before)
        where = " AND ".join(conditions)
        sql = f"SELECT {self.key} FROM {self.source} WHERE {where} ORDER BY {self.key} DESC LIMIT 1 OFFSET ?"  # noqa: S608
        return sql, [*values, walked_max - 1]

    def listing(self, before: int | None, floor: int | None, limit: int) -> tuple[str, list[object]]:
        """Return the statement for the tasks down to `floor`, with its values."""
        conditions, values = self._before(before)
        if floor is not None:
            conditions.append(f"{self.key} >= ?")
            values.append(floor)
        where = " AND ".join([*conditions, *self.filters])
        sql = ROWS.format(tables=self.source + self.join, conditions=where, order=self.key)
        return sql, [*values, *self.filter_values, limit]

    def filter(self, condition: str, *values: object) -> None:
        self.filters.append(condition)
        self.filter_values += values

    def _before(self, before: int | None) -> tuple[list[str], list[object]]:
        if before is None:
            return ["1", *self.conditions], [*self.values]
        return [*self.conditions, f"{self.key} < ?"], [*self.values, before]


def listing(query: TaskQuery) -> tuple[str, list[object]]:
    """Return the statement for a query, with its values, without a bound on the scanned tasks."""
    return _way_of(query).listing(query.before, None, query.limit)


def _way_of(query: TaskQuery) -> _Way:
    """Return the access path that selects the fewest rows. The index is named explicitly, because SQLite's planner does
    not know how many tasks have which label. Conditions are written exactly as in the partial indexes.
    """
    unfinished = bool(query.states) and not query.states & TERMINAL
    labels = list(query.labels.items())
    agent, key = query.agent, query.submitted_by
    if query.tenant is None:
        way = _Way("tasks t")
        if unfinished:  # indexed by owner: the rows are few, and are sorted
            way = _Way("tasks t INDEXED BY tasks_unfinished", is_ordered=False, conditions=[f"t.{UNFINISHED}"])
        if query.session_id:
            way.filter("t.session_id = ?", query.session_id)
    elif query.session_id:
        index = "tasks_unfinished_of_session" if unfinished else "tasks_of_session"
        way = _Way(f"tasks t INDEXED BY {index}", values=[query.tenant, query.session_id])
        way.conditions = ["t.tenant = ? AND t.session_id = ? AND t.session_id <> ''"]
    elif labels:
        way = _Way("labels l", "l.task_key", " CROSS JOIN tasks t ON t.task_key = l.task_key")
        way.conditions, way.values = ["l.tenant = ? AND l.key = ? AND l.value = ?"], [query.tenant, *labels.pop(0)]
    elif key and not unfinished:
        way = _Way("tasks t INDEXED BY tasks_of_key", values=[query.tenant, key])
        way.conditions, key = ["t.tenant = ? AND t.submitted_by = ?"], ""
    elif agent and not unfinished:
        way = _Way("tasks t INDEXED BY tasks_of_agent", values=[query.tenant, agent])
        way.conditions, agent = ["t.tenant = ? AND t.agent = ?"], ""
    else:
        index = "tasks_unfinished_of_tenant" if unfinished else "tasks_of_tenant"
        way = _Way(f"tasks t INDEXED BY {index}", conditions=["t.tenant = ?"], values=[query.tenant])
    if unfinished and way.join:
        way.filter(f"t.{UNFINISHED}")
    elif unfinished and query.tenant is not None:
        way.conditions.append(f"t.{UNFINISHED}")
    for label in labels:
        way.filter(LABELED, *label)
    if agent:
        way.filter("t.agent = ?", agent)
    if key:
        way.filter("t.submitted_by = ?", key)
    if query.states:
        way.filter(f"t.state IN ({', '.join('?' * len(query.states))})", *sorted(query.states))
    if query.created_since_us is not None:
        way.filter("t.create_time >= ?", query.created_since_us)
    if query.created_before_us is not None:
        way.filter("t.create_time < ?", query.created_before_us)
    return way


def follow(reader: sqlite3.Connection, after_position: int, limit: int) -> list[Change]:
    """See `Journal.follow`."""
    return [Change(*row) for row in reader.execute(FOLLOW, (after_position, limit)).fetchall()]


def position(reader: sqlite3.Connection) -> int:
    """See `Journal.position`."""
    (last,) = reader.execute("SELECT last FROM positions").fetchone()
    return int(last)


def waiting_for_input(reader: sqlite3.Connection) -> int:
    """See `TaskIndex.waiting_for_input`."""
    (count,) = reader.execute(WAITING, (TASK_STATE_INPUT_REQUIRED,)).fetchone()
    return int(count)


def overdue(reader: sqlite3.Connection, now_us: int, limit: int) -> list[str]:
    """See `TaskIndex.overdue`."""
    return [task_id for (task_id,) in reader.execute(OVERDUE, (now_us, limit)).fetchall()]


def erase(cursor: sqlite3.Cursor, task_id: str) -> bool:
    """See `Retention.erase`. Runs inside a transaction, like the functions below."""
    sql = f"SELECT task_key FROM tasks WHERE id = ? AND {FINISHED}"  # noqa: S608
    keys = cursor.execute(sql, (task_id,)).fetchall()
    _erase_keys(cursor, keys)
    return bool(keys)


def erase_session(cursor: sqlite3.Cursor, tenant: str, session_id: str, newest_key: int, limit: int) -> tuple[int, int]:
    """Erase the oldest tasks of a session up to a key. Return their number, and the newest key in the session."""
    found = cursor.execute(KEYS_OF_SESSION, (tenant, session_id, newest_key)).fetchall()
    unfinished = sum(state not in TERMINAL for _, state in found)
    if unfinished:
        raise SessionBusyError(unfinished)
    keys = [(key,) for key, _ in found[:limit]]
    _erase_keys(cursor, keys)
    return len(keys), found[-1][0] if found else 0


def erase_finished(cursor: sqlite3.Cursor, before_us: int, limit: int) -> int:
    """See `Retention.erase_finished`."""
    keys = cursor.execute(KEYS_FINISHED, (before_us, limit)).fetchall()
    _erase_keys(cursor, keys)
    return len(keys)


def fill_submitters(connection: sqlite3.Connection) -> None:
    """Fill in the column `submitted_by` from the journals of a store that did not have it; inside a transaction."""
    found = []
    for task_key, payload in connection.execute(FIRST_EVENTS):
        with suppress(DecodeError):  # an unreadable event must not prevent opening the store
            found.append((TaskEvent.FromString(payload).submitted.submitted_by, task_key))
    connection.executemany("UPDATE tasks SET submitted_by = ? WHERE task_key = ?", found)


def _erase_keys(cursor: sqlite3.Cursor, keys: Sequence[tuple[int]]) -> None:
    for table in ("events", "labels", "tasks"):
        cursor.executemany(f"DELETE FROM {table} WHERE task_key = ?", keys)  # noqa: S608 - names of ours

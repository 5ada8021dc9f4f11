"""Finding tasks in a SQLite journal, and erasing them: the queries. Each runs in a thread that is not the loop's."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from agent_service.store.base import LAST_RESORT_US, TERMINAL, SessionBusyError, TaskQuery, TaskRow
from agent_service.store.entry import event_of
from agent_service.v1.task_pb2 import TASK_STATE_INPUT_REQUIRED

# The conditions are those of the indexes, word by word.
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
KEYS_OF_SESSION = """
    SELECT task_key, state FROM tasks
    WHERE tenant = ? AND session_id = ? AND session_id <> '' AND task_key <= ? ORDER BY task_key
"""
KEYS_FINISHED = f"SELECT task_key FROM tasks WHERE {FINISHED} AND update_time < ? ORDER BY update_time LIMIT ?"  # noqa: S608


def of_request(reader: sqlite3.Connection, tenant: str, request_id: str, since_us: int) -> str:
    """See `TaskIndex.of_request`."""
    found = reader.execute(OF_REQUEST, (tenant, request_id, since_us)).fetchall()
    return str(found[0][0]) if found else ""


def list_tasks(reader: sqlite3.Connection, query: TaskQuery) -> list[TaskRow]:
    """See `TaskIndex.list_tasks`."""
    return _rows(reader, *listing(query))


def find(reader: sqlite3.Connection, task_id: str) -> TaskRow | None:
    """See `TaskIndex.find`."""
    found = _rows(reader, ROWS.format(tables="tasks t", conditions="t.id = ?", order="t.task_key"), [task_id, 1])
    return found[0] if found else None


def _rows(reader: sqlite3.Connection, sql: str, values: Sequence[object]) -> list[TaskRow]:
    return [
        TaskRow(key, task_id, tenant, state, attempt, event_of(first, 1), event_of(last, last_sequence))
        for key, task_id, tenant, state, attempt, last_sequence, first, last in reader.execute(sql, values).fetchall()
    ]


def listing(query: TaskQuery) -> tuple[str, list[object]]:
    """The statement for a query, with its values. Every condition that has an index is written as the index has it.

    Where a label is asked for, it is looked up first, a session's apart, which has fewer tasks: CROSS JOIN takes that
    from SQLite's planner, which knows nothing of how many tasks have which label.
    """
    tables, order, conditions, values = "tasks t", "t.task_key", ["1"], list[object]()

    def add(condition: str, *with_values: object) -> None:
        conditions.append(condition)
        values.extend(with_values)

    for number, (key, value) in enumerate(query.labels.items()):
        name = f"l{number}"
        if number == 0 and query.tenant is not None and not query.session_id:
            tables, order = f"labels {name} CROSS JOIN tasks t ON t.task_key = {name}.task_key", f"{name}.task_key"
        else:
            tables = f"{tables} JOIN labels {name} ON {name}.task_key = t.task_key"
        add(f"{name}.tenant = t.tenant AND {name}.key = ? AND {name}.value = ?", key, value)
        if query.tenant is not None:
            add(f"{name}.tenant = ?", query.tenant)
    if query.tenant is not None:
        add("t.tenant = ?", query.tenant)
    if query.agent:
        add("t.agent = ?", query.agent)
    if query.session_id:
        add("t.session_id = ? AND t.session_id <> ''", query.session_id)
    if query.states:
        add(f"t.state IN ({', '.join('?' * len(query.states))})", *sorted(query.states))
        if not query.states & TERMINAL:
            add(f"t.{UNFINISHED}")
    if query.created_since_us is not None:
        add("t.create_time >= ?", query.created_since_us)
    if query.created_before_us is not None:
        add("t.create_time < ?", query.created_before_us)
    if query.before is not None:
        add(f"{order} < ?", query.before)
    return ROWS.format(tables=tables, conditions=" AND ".join(conditions), order=order), [*values, query.limit]


def grown(reader: sqlite3.Connection, heads: Mapping[str, int]) -> dict[str, int]:
    """See `TaskIndex.grown`."""
    task_ids = list(heads)
    found: dict[str, int] = {}
    for start in range(0, len(task_ids), 500):
        some = task_ids[start : start + 500]
        sql = f"SELECT id, last_sequence FROM tasks WHERE id IN ({', '.join('?' * len(some))})"  # noqa: S608
        found.update(reader.execute(sql, some).fetchall())
    return {task_id: last for task_id, last in found.items() if last > heads[task_id]}


def waiting_for_input(reader: sqlite3.Connection) -> int:
    """See `TaskIndex.waiting_for_input`."""
    (count,) = reader.execute(WAITING, (TASK_STATE_INPUT_REQUIRED,)).fetchone()
    return int(count)


def overdue(reader: sqlite3.Connection, now_us: int, limit: int) -> list[str]:
    """See `Ownership.overdue`."""
    return [task_id for (task_id,) in reader.execute(OVERDUE, (now_us, limit)).fetchall()]


def erase(cursor: sqlite3.Cursor, task_id: str) -> bool:
    """See `Retention.erase`; inside a transaction, as all that follows."""
    sql = f"SELECT task_key FROM tasks WHERE id = ? AND {FINISHED}"  # noqa: S608
    keys = cursor.execute(sql, (task_id,)).fetchall()
    _erase_keys(cursor, keys)
    return bool(keys)


def erase_session(cursor: sqlite3.Cursor, tenant: str, session_id: str, newest_key: int, limit: int) -> tuple[int, int]:
    """Erase the oldest tasks of a session up to a key: how many, and the newest key among all that were found."""
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


def _erase_keys(cursor: sqlite3.Cursor, keys: Sequence[tuple[int]]) -> None:
    for table in ("events", "labels", "tasks"):
        cursor.executemany(f"DELETE FROM {table} WHERE task_key = ?", keys)  # noqa: S608 - names of ours

"""One SQLite transaction of many appends.

Appends are admitted here, against rows read in the same transaction, so a refused append leaves nothing to undo. The
number of statements does not grow with the number of appends, up to `ROWS_MAX`: each statement passes the GIL to the
event loop's thread and back, and with one statement per append, 64 appends took two to three times as long. Only
sessions and reused request ids take a statement each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from agent_service.journal.append import Append, Origin
from agent_service.journal.append_rule import Head, RequestTask, Session, admit
from agent_service.journal.event_rules import TERMINAL
from agent_service.journal.payloads import is_started
from agent_service.journal.refusals import AppendRefusedError
from agent_service.store.base import Appended
from agent_service.store.sqlite.usage import ADD_USAGE, payloads_of
from agent_service.store.usage import Tally

# Rows in one statement. Each number of rows is a separate statement, which the connection caches.
ROWS_MAX = 64
STATEMENTS_MAX = 6 * ROWS_MAX + 32

HEADS = """
    SELECT id, task_key, tenant, agent, session_id, state, attempt, last_sequence, owner, due, asked FROM tasks
    WHERE id IN (VALUES {rows})
"""
NAMED = """
    SELECT tenant, request_id, id, create_time FROM tasks
    WHERE (tenant, request_id) IN (VALUES {rows}) AND request_id <> ''
"""
FREE_NAME = "UPDATE tasks SET request_id = '' WHERE tenant = ? AND request_id = ? AND request_id <> ''"
AGENT_OF_SESSION = """
    SELECT agent FROM tasks WHERE tenant = ? AND session_id = ? AND session_id <> '' ORDER BY task_key LIMIT 1
"""
UNFINISHED_OF_SESSION = """
    SELECT id FROM tasks
    WHERE tenant = ? AND session_id = ? AND session_id <> '' AND state NOT IN (4, 5, 6, 7) ORDER BY task_key
"""
LAST_KEY = "SELECT coalesce(max(task_key), 0) FROM tasks"
CREATE = "INSERT INTO tasks VALUES {rows}"
UPDATE = """
    WITH new (task_key, state, attempt, last_sequence, owner, due, update_time, asked, position) AS (VALUES {rows})
    UPDATE tasks SET state = new.state, attempt = new.attempt, last_sequence = new.last_sequence,
        owner = new.owner, due = new.due, update_time = new.update_time, asked = new.asked,
        position = new.position
    FROM new WHERE tasks.task_key = new.task_key
"""
TAKE_POSITIONS = "UPDATE positions SET last = last + ? RETURNING last"
ADD_EVENTS = "INSERT INTO events VALUES {rows}"
ADD_LABELS = "INSERT INTO labels VALUES {rows}"
PROBE = "UPDATE probe SET writes = writes + 1"

# The outcome of an append.
Outcome = Appended | AppendRefusedError
Row = tuple[object, ...]
Name = tuple[str, str]


class _Task(NamedTuple):
    """The part of a task's row that appends change or need."""

    key: int
    head: Head


class Batch:
    """The state of the transaction that `commit` runs: the tasks after the appends admitted so far. It implements the
    `View` of the admission rule.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._tasks: dict[str, _Task] = {}
        self._request_tasks: dict[Name, RequestTask] = {}
        self._freed: list[Name] = []
        self._sessions: dict[Name, Session] = {}
        self._last_key = 0
        self._created: dict[str, Origin] = {}
        self._newest: dict[str, Append] = {}
        self._events: list[tuple[int, int, bytes]] = []
        self._tally = Tally()

    def commit(self, appends: Sequence[Append], *, probe: bool) -> list[Outcome]:
        """Store admitted appends durably. Return one outcome per append, in order. With `probe`, write in any case.

        Raises:
            sqlite3.Error: nothing is stored; the transaction may still be open.
        """
        # Closed on errors too: a kept exception keeps its frames, and an open cursor keeps the whole file open.
        with closing(self._cursor):
            self._cursor.execute("BEGIN IMMEDIATE")
            self._read(appends)
            admitted = [self._add(append) for append in appends]
            positions = self._positions()
            self._write(positions)
            if probe:
                self._cursor.execute(PROBE)
            self._cursor.execute("COMMIT")
            return [
                outcome if isinstance(outcome, AppendRefusedError) else Appended(outcome, positions[append.task_id])
                for append, outcome in zip(appends, admitted, strict=True)
            ]

    def head(self, task_id: str) -> Head | None:
        """See `View.head`."""
        task = self._tasks.get(task_id)
        return task.head if task is not None else None

    def task_of_request(self, tenant: str, request_id: str) -> RequestTask | None:
        """See `View.task_of_request`."""
        return self._request_tasks.get((tenant, request_id))

    def session(self, tenant: str, session_id: str) -> Session | None:
        """See `View.session`."""
        known = self._sessions.get((tenant, session_id))
        if known is not None:
            return known
        ours = (tenant, session_id)
        new = [task_id for task_id, origin in self._created.items() if (origin.tenant, origin.session_id) == ours]
        agents = self._cursor.execute(AGENT_OF_SESSION, ours).fetchall()
        if not agents and not new:
            return None
        stored = [task_id for (task_id,) in self._cursor.execute(UNFINISHED_OF_SESSION, ours).fetchall()]
        unfinished = [task_id for task_id in stored + new if not self._is_over(task_id)]
        agent = agents[0][0] if agents else self._created[new[0]].agent
        session = self._sessions[ours] = Session(agent, unfinished)
        return session

    def has_started(self, task_id: str, call_id: str) -> bool:
        """See `View.has_started`."""
        task_key = self._tasks[task_id].key
        new = (payload for key, _, payload in self._events if key == task_key)
        return is_started(call_id, new) or is_started(call_id, payloads_of(self._cursor, task_key))

    def _read(self, appends: Sequence[Append]) -> None:
        task_ids = {append.task_id for append in appends}
        for task_id, key, *head in self._run(HEADS, [(task_id,) for task_id in task_ids]):
            self._tasks[task_id] = _Task(key, Head(*head))
        names = {_name(append.origin) for append in appends if append.origin is not None and append.origin.request_id}
        if names:
            for tenant, request_id, task_id, create_time_us in self._run(NAMED, list(names)):
                self._request_tasks[tenant, request_id] = RequestTask(task_id, create_time_us)

    def _add(self, append: Append) -> int | AppendRefusedError:
        """Add the append if the rule admits it. Return the sequence of its last event, or the refusal."""
        admitted = admit(self, append)
        if isinstance(admitted, AppendRefusedError):
            return admitted
        task_id, head = append.task_id, admitted.head
        key = self._tasks[task_id].key if append.origin is None else self._create(task_id, append.origin)
        self._tasks[task_id] = _Task(key, head)
        first = head.last_sequence - len(append.payloads) + 1
        self._events += [(key, sequence, payload) for sequence, payload in enumerate(append.payloads, first)]
        self._newest[task_id] = append
        for usage_key, amounts in admitted.used:
            self._tally.add(usage_key, amounts)
        if head.session_id and head.state in TERMINAL and (head.tenant, head.session_id) in self._sessions:
            self._sessions[head.tenant, head.session_id].unfinished.remove(task_id)
        return head.last_sequence

    def _create(self, task_id: str, origin: Origin) -> int:
        """Add a new task. Return its key."""
        if not self._last_key:
            self._last_key = self._cursor.execute(LAST_KEY).fetchall()[0][0]
        self._last_key += 1
        if origin.request_id:
            if _name(origin) in self._request_tasks:
                self._freed.append(_name(origin))
            self._request_tasks[_name(origin)] = RequestTask(task_id, origin.create_time_us)
        self._created[task_id] = origin
        if origin.session_id and (origin.tenant, origin.session_id) in self._sessions:
            self._sessions[origin.tenant, origin.session_id].unfinished.append(task_id)
        return self._last_key

    def _is_over(self, task_id: str) -> bool:
        return task_id in self._tasks and self._tasks[task_id].head.state in TERMINAL

    def _positions(self) -> dict[str, int]:
        """Take a position for each changed task."""
        if not self._newest:
            return {}
        ((last,),) = self._cursor.execute(TAKE_POSITIONS, (len(self._newest),)).fetchall()
        return {task_id: position for position, task_id in enumerate(self._newest, last - len(self._newest) + 1)}

    def _write(self, positions: Mapping[str, int]) -> None:
        for name in self._freed:
            self._cursor.execute(FREE_NAME, name)
        created, updated, labels = [], [], []
        for task_id, newest in self._newest.items():
            key, head = self._tasks[task_id]
            changing = (
                head.state,
                head.attempt,
                head.last_sequence,
                head.owner,
                head.due_us,
                newest.time_us,
                head.model,
            )
            position = positions[task_id]
            if origin := self._created.get(task_id):
                created.append((key, task_id, *origin[:6], *changing, origin.submitted_by, position))
                labels += [(head.tenant, label, value, key) for label, value in origin.labels.items()]
            else:
                updated.append((key, *changing, position))
        used = [(*key, *amounts) for key, amounts in self._tally.rows()]
        writes: Sequence[tuple[str, Sequence[Row]]] = (
            (CREATE, created),
            (UPDATE, updated),
            (ADD_EVENTS, self._events),
            (ADD_LABELS, labels),
            (ADD_USAGE, used),
        )
        for template, rows in writes:
            if rows:
                self._run(template, rows)

    def _run(self, template: str, rows: Sequence[Row]) -> list[Any]:
        """Run a statement over all rows, up to ROWS_MAX rows at a time."""
        answers: list[Any] = []
        for start in range(0, len(rows), ROWS_MAX):
            some = rows[start : start + ROWS_MAX]
            self._cursor.execute(_sql(template, len(some), len(some[0])), list(chain.from_iterable(some)))
            answers.extend(self._cursor.fetchall())
        return answers


def _name(origin: Origin) -> Name:
    return origin.tenant, origin.request_id


@cache
def _sql(template: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return template.format(rows=", ".join([row] * rows))

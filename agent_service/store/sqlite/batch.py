"""One SQLite transaction of many appends.

Appends are judged here, against what is read in the same transaction, so a refused one leaves nothing to undo. The
number of statements does not grow with that of appends, up to `ROWS_MAX`: each statement hands the GIL to and fro with
the event loop's thread, and with one for each append 64 of them took two to three times as long. Sessions alone are
looked up one by one, and labels written so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from agent_service.store.base import TERMINAL, AppendRefusedError
from agent_service.store.entry import (
    Entry,
    Head,
    Origin,
    Session,
    advance,
    begins_in_session,
    check_request,
    check_session,
)
from agent_service.store.sqlite.usage import ADD_USAGE, payloads_of
from agent_service.store.usage import Tally, is_started

# Rows in one statement. Each number of rows is a statement of its own, which the connection keeps prepared.
ROWS_MAX = 64
STATEMENTS_MAX = 6 * ROWS_MAX + 32

HEADS = """
    SELECT id, task_key, tenant, agent, asked, owner, due, state, attempt, last_sequence, session_id FROM tasks
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
    WITH new (task_key, state, attempt, last_sequence, owner, due, update_time, asked) AS (VALUES {rows})
    UPDATE tasks SET state = new.state, attempt = new.attempt, last_sequence = new.last_sequence,
        owner = new.owner, due = new.due, update_time = new.update_time, asked = new.asked
    FROM new WHERE tasks.task_key = new.task_key
"""
ADD_EVENTS = "INSERT INTO events VALUES {rows}"
ADD_LABELS = "INSERT INTO labels VALUES {rows}"
PROBE = "UPDATE probe SET writes = writes + 1"

# What became of an append: the sequence of its last event, or why it was refused.
Outcome = int | AppendRefusedError
Row = tuple[object, ...]
Name = tuple[str, str]


class _Task(NamedTuple):
    """A task's columns, as far as appends change or need them."""

    key: int
    tenant: str
    agent: str
    asked: str
    owner: str
    due_us: int
    head: Head


class Batch:
    """The state of the transaction that `commit` runs: tasks as they are after the appends judged so far."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._tasks: dict[str, _Task] = {}
        self._named: dict[Name, tuple[str, int]] = {}
        self._freed: list[Name] = []
        self._sessions: dict[Name, Session] = {}
        self._last_key = 0
        self._created: dict[str, Origin] = {}
        self._newest: dict[str, Entry] = {}
        self._events: list[tuple[int, int, bytes]] = []
        self._tally = Tally()

    def commit(self, entries: Sequence[Entry], *, probe: bool) -> list[Outcome]:
        """Store what the rule admits, durably; one outcome for each entry, in order. With `probe` write in any case.

        Raises:
            sqlite3.Error: nothing is stored; the transaction may still be open.
        """
        # Closed also on an error: whoever keeps that keeps its frames, and an open cursor keeps the whole file open.
        with closing(self._cursor):
            self._cursor.execute("BEGIN IMMEDIATE")
            self._read(entries)
            outcomes = [self._outcome(entry) for entry in entries]
            self._write()
            if probe:
                self._cursor.execute(PROBE)
            self._cursor.execute("COMMIT")
            return outcomes

    def _read(self, entries: Sequence[Entry]) -> None:
        task_ids = {entry.task_id for entry in entries}
        heads = self._run(HEADS, [(task_id,) for task_id in task_ids])
        for task_id, key, tenant, agent, asked, owner, due, *head in heads:
            self._tasks[task_id] = _Task(key, tenant, agent, asked, owner, due, Head(*head))
        names = {_name(entry.origin) for entry in entries if entry.origin is not None and entry.origin.request_id}
        for tenant, request_id, task_id, create_time in self._run(NAMED, list(names)):
            self._named[tenant, request_id] = task_id, create_time

    def _outcome(self, entry: Entry) -> Outcome:
        try:
            return self._admit(entry)
        except AppendRefusedError as refusal:
            return refusal

    def _admit(self, entry: Entry) -> int:
        """Take the entry in; the sequence of its last event.

        Raises:
            AppendRefusedError: the rule does not admit it.
        """
        task_id, origin = entry.task_id, entry.origin
        task = self._tasks.get(task_id)
        head = advance(task.head if task else None, entry)
        if origin is not None and origin.request_id:
            check_request(self._named.get(_name(origin)), entry)
        tenant = origin.tenant if origin else task.tenant if task else ""
        if session_id := begins_in_session(task.head if task else None, entry):
            check_session(self._session(tenant, session_id), entry)
        if origin is not None:
            task = self._create(task_id, origin)
        assert task is not None
        owner = task.owner if entry.owner is None else entry.owner
        due_us = task.due_us if entry.due_us is None else entry.due_us
        asked = self._count(task, entry) if entry.used else task.asked
        self._tasks[task_id] = _Task(task.key, tenant, task.agent, asked, owner, due_us, head)
        sequence = head.last_sequence - len(entry.payloads)
        self._events.extend((task.key, sequence + n, payload) for n, payload in enumerate(entry.payloads, 1))
        self._newest[task_id] = entry
        if head.session_id and head.state in TERMINAL and (tenant, head.session_id) in self._sessions:
            self._sessions[tenant, head.session_id].unfinished.remove(task_id)
        return head.last_sequence

    def _create(self, task_id: str, origin: Origin) -> _Task:
        if not self._last_key:
            self._last_key = self._cursor.execute(LAST_KEY).fetchall()[0][0]
        self._last_key += 1
        if origin.request_id:
            if _name(origin) in self._named:
                self._freed.append(_name(origin))
            self._named[_name(origin)] = task_id, origin.create_time_us
        self._created[task_id] = origin
        if origin.session_id and (origin.tenant, origin.session_id) in self._sessions:
            self._sessions[origin.tenant, origin.session_id].unfinished.append(task_id)
        return _Task(self._last_key, origin.tenant, origin.agent, "", "", 0, Head(0, 0, 0))

    def _count(self, task: _Task, entry: Entry) -> str:
        """Add up what the entry's events used; the model that the task asks after them."""

        def is_repeated(call_id: str) -> bool:
            new = (payload for key, _, payload in self._events if key == task.key)
            return is_started(call_id, new) or is_started(call_id, payloads_of(self._cursor, task.key))

        return self._tally.add_events(
            entry.used, tenant=task.tenant, agent=task.agent, asked=task.asked, is_repeated=is_repeated
        )

    def _session(self, tenant: str, session_id: str) -> Session | None:
        """The session as it stands after the appends so far; None if it has no task."""
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

    def _is_over(self, task_id: str) -> bool:
        return task_id in self._tasks and self._tasks[task_id].head.state in TERMINAL

    def _write(self) -> None:
        for name in self._freed:
            self._cursor.execute(FREE_NAME, name)
        created, updated, labels = [], [], []
        for task_id, newest in self._newest.items():
            key, tenant, _, asked, owner, due_us, head = self._tasks[task_id]
            changing = (head.state, head.attempt, head.last_sequence, owner, due_us, newest.time_us, asked)
            if origin := self._created.get(task_id):
                created.append((key, task_id, *origin[:6], *changing, origin.submitted_by))
                labels += [(tenant, label, value, key) for label, value in origin.labels.items()]
            else:
                updated.append((key, *changing))
        self._run(CREATE, created)
        self._run(UPDATE, updated)
        self._run(ADD_EVENTS, self._events)
        self._run(ADD_LABELS, labels)
        self._run(ADD_USAGE, [(*key, *amounts) for key, amounts in self._tally.rows()])

    def _run(self, template: str, rows: Sequence[Row]) -> list[Any]:
        """Run a statement over all rows, in as few statements as ROWS_MAX allows; none if there are no rows."""
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

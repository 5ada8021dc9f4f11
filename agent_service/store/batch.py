"""One SQLite transaction of many appends.

Appends are judged here, against heads read in the same transaction, so a refused one leaves nothing to undo. The number
of statements does not grow with that of appends, up to `ROWS_MAX`: each statement hands the GIL to and fro with the
event loop's thread, and with one for each append 64 of them took two to three times as long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from itertools import chain
from typing import Any

from agent_service.store.base import AppendRefusedError
from agent_service.store.entry import Entry, Head, Origin, advance

# Rows in one statement. Each number of rows is a statement of its own, which the connection keeps prepared.
ROWS_MAX = 64
STATEMENTS_MAX = 4 * ROWS_MAX + 8

HEADS = "SELECT id, task_key, state, attempt, last_sequence FROM tasks WHERE id IN (VALUES {rows})"
LAST_KEY = "SELECT coalesce(max(task_key), 0) FROM tasks"
CREATE = "INSERT INTO tasks VALUES {rows}"
UPDATE = """
    WITH new (task_key, state, attempt, last_sequence, update_time) AS (VALUES {rows})
    UPDATE tasks SET state = new.state, attempt = new.attempt, last_sequence = new.last_sequence,
        update_time = new.update_time
    FROM new WHERE tasks.task_key = new.task_key
"""
ADD_EVENTS = "INSERT INTO events VALUES {rows}"
PROBE = "UPDATE probe SET writes = writes + 1"

# What became of an append: the sequence of its last event, or why it was refused.
Outcome = int | AppendRefusedError
Row = tuple[object, ...]


class Batch:
    """The state of the transaction that `commit` runs: heads as they are after the appends judged so far."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._heads: dict[str, Head] = {}
        self._keys: dict[str, int] = {}
        self._last_key = 0
        self._created: dict[str, Origin] = {}
        self._newest: dict[str, Entry] = {}
        self._events: list[Row] = []

    def commit(self, entries: Sequence[Entry], *, probe: bool) -> list[Outcome]:
        """Store what the rule admits, durably; one outcome for each entry, in order. With `probe` write in any case.

        Raises:
            sqlite3.Error: nothing is stored; the transaction may still be open.
        """
        # Closed also on an error: whoever keeps that keeps its frames, and an open cursor keeps the whole file open.
        with closing(self._cursor):
            self._cursor.execute("BEGIN IMMEDIATE")
            self._read_heads({entry.task_id for entry in entries})
            outcomes = [self._judge(entry) for entry in entries]
            self._write()
            if probe:
                self._cursor.execute(PROBE)
            self._cursor.execute("COMMIT")
            return outcomes

    def _read_heads(self, task_ids: set[str]) -> None:
        for task_id, key, *head in self._run(HEADS, [(task_id,) for task_id in task_ids]):
            self._keys[task_id] = key
            self._heads[task_id] = Head(*head)

    def _judge(self, entry: Entry) -> Outcome:
        task_id = entry.task_id
        try:
            head = advance(self._heads.get(task_id), entry)
        except AppendRefusedError as refusal:
            return refusal
        if entry.origin is not None:
            self._keys[task_id] = self._next_key()
            self._created[task_id] = entry.origin
        key, sequence = self._keys[task_id], head.last_sequence - len(entry.payloads)
        self._events.extend((key, sequence + n, payload) for n, payload in enumerate(entry.payloads, 1))
        self._heads[task_id] = head
        self._newest[task_id] = entry
        return head.last_sequence

    def _next_key(self) -> int:
        if not self._last_key:
            self._last_key = self._cursor.execute(LAST_KEY).fetchall()[0][0]
        self._last_key += 1
        return self._last_key

    def _write(self) -> None:
        created, updated = [], []
        for task_id, newest in self._newest.items():
            key, head = self._keys[task_id], self._heads[task_id]
            if origin := self._created.get(task_id):
                whose, create_time_us = origin[:-1], origin.create_time_us
                created.append((key, task_id, *whose, *head, create_time_us, newest.time_us))
            else:
                updated.append((key, *head, newest.time_us))
        self._run(CREATE, created)
        self._run(UPDATE, updated)
        self._run(ADD_EVENTS, self._events)

    def _run(self, template: str, rows: Sequence[Row]) -> list[Any]:
        """Run a statement over all rows, in as few statements as ROWS_MAX allows; none if there are no rows."""
        answers: list[Any] = []
        for start in range(0, len(rows), ROWS_MAX):
            some = rows[start : start + ROWS_MAX]
            self._cursor.execute(_sql(template, len(some), len(some[0])), list(chain.from_iterable(some)))
            answers.extend(self._cursor.fetchall())
        return answers


@cache
def _sql(template: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return template.format(rows=", ".join([row] * rows))

"""The processes that share a SQLite journal: which of them live, and what those that do not have left.

Each holds a lock on a file of its own as long as it lives, which the system lets go of however it ends; one that holds
its lock and says nothing is frozen.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent_service.store.base import Orphan

ORPHANS = """
    SELECT id, tenant, session_id, attempt FROM tasks
    WHERE state NOT IN (4, 5, 6, 7) AND state IN (1, 2) AND owner NOT IN ({alive}) ORDER BY task_key LIMIT ?
"""
ATTENDING = "SELECT id, beat FROM workers WHERE id <> ? AND instr(attended, ?) > 0"


class Workers:
    """The lock files beside a database. `beat` and `leave` run inside a transaction."""

    def __init__(self, database: Path, silence_max_s: float) -> None:
        self._folder = Path(f"{database}.workers")
        self._silence_max_s = silence_max_s
        self._held: dict[str, int] = {}

    def beat(self, cursor: sqlite3.Cursor, worker: str, attended: Sequence[str]) -> int:
        """See `Ownership.beat`. Forgets those that are gone."""
        self._hold(worker)
        row = (worker, time.time_ns() // 1000, f" {' '.join(attended)} ")
        cursor.execute("INSERT OR REPLACE INTO workers VALUES (?, ?, ?)", row)
        others = cursor.execute("SELECT id, beat FROM workers WHERE id <> ?", (worker,)).fetchall()
        for other, _ in others:
            if not self._is_locked(other):
                cursor.execute("DELETE FROM workers WHERE id = ?", (other,))
                self._path(other).unlink(missing_ok=True)
        return sum(self._is_alive(*other) for other in others)

    def leave(self, cursor: sqlite3.Cursor, worker: str) -> None:
        """See `Ownership.leave`."""
        cursor.execute("DELETE FROM workers WHERE id = ?", (worker,))
        self._let_go(worker)

    def close(self) -> None:
        """Let go of all locks that this process holds."""
        for worker in list(self._held):
            self._let_go(worker)

    def orphans(self, reader: sqlite3.Connection, worker: str, limit: int) -> list[Orphan]:
        """See `Ownership.orphans`."""
        others = reader.execute("SELECT id, beat FROM workers WHERE id <> ?", (worker,)).fetchall()
        alive = [worker, *(other for other, beat in others if self._is_alive(other, beat))]
        sql = ORPHANS.format(alive=", ".join("?" * len(alive)))
        return [Orphan(*row) for row in reader.execute(sql, (*alive, limit)).fetchall()]

    def is_attended(self, reader: sqlite3.Connection, worker: str, task_id: str) -> bool:
        """See `Ownership.is_attended`."""
        others = reader.execute(ATTENDING, (worker, f" {task_id} ")).fetchall()
        return any(self._is_alive(*other) for other in others)

    def _is_alive(self, worker: str, beat_us: int) -> bool:
        return time.time() - beat_us / 1e6 < self._silence_max_s and self._is_locked(worker)

    def _path(self, worker: str) -> Path:
        return self._folder / worker

    def _hold(self, worker: str) -> None:
        if worker in self._held:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self._path(worker), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held[worker] = lock

    def _let_go(self, worker: str) -> None:
        lock = self._held.pop(worker, None)
        if lock is not None:
            self._path(worker).unlink(missing_ok=True)
            os.close(lock)

    def _is_locked(self, worker: str) -> bool:
        """Whether somebody, we ourselves included, holds the worker's lock."""
        try:
            looking = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            with suppress(OSError):
                os.close(looking)
        return False

"""The processes that share a SQLite journal: which of them are alive, and the orphaned tasks of the others.

Each worker has a row, and a lock file that it holds a lock on while it lives; the system releases the lock when the
process ends, in whatever way. A worker is dead only if another process could take its lock. A worker that holds its
lock and does not increment its counter is frozen (`liveness.py`). The counter is the modification time of the lock
file, in seconds: writing it needs no disk space and no database lock, and reading it no file descriptor.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from agent_service.store.base import Orphan, Peers
from agent_service.store.liveness import Liveness

# Exactly the conditions of the partial indexes.
BEGUN = """
    SELECT id, tenant, session_id, attempt, task_key, owner FROM tasks INDEXED BY tasks_unfinished
    WHERE state NOT IN (4, 5, 6, 7) AND owner > '' AND owner NOT IN ({alive}) AND task_key > ?
    UNION ALL
    SELECT id, tenant, session_id, attempt, task_key, owner FROM tasks INDEXED BY tasks_released
    WHERE state = 2 AND owner = '' AND task_key > ?
    ORDER BY task_key
"""
UNBEGUN = """
    SELECT id, tenant, session_id, attempt, task_key, owner FROM tasks INDEXED BY tasks_unfinished
    WHERE state NOT IN (4, 5, 6, 7) AND owner = '' AND state = 1 AND task_key > ? ORDER BY task_key
"""
ENTER = "INSERT OR IGNORE INTO workers VALUES (?, 0, ' ')"
SET_ATTACHED = "UPDATE workers SET attended = ? WHERE id = ?"
# The counter of a worker whose file is missing. A living worker creates it again with its next heartbeat.
MISSING = -1


class WorkerLocks:
    """The lock files and rows of all workers of a database, as this process sees them.

    `heartbeat`, `release` and `unlink_files` run in the heartbeat's thread; `enter`, `publish_callers` and
    `remove_rows` run inside a transaction.
    """

    def __init__(self, database: Path, liveness: Liveness) -> None:
        self._folder = Path(f"{database}.workers")
        self._liveness = liveness
        self._held: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        # Replaced as a whole, since other threads read it.
        self.dead: frozenset[str] = frozenset()

    def heartbeat(self, reader: sqlite3.Connection, worker: str) -> Peers | None:
        """See `Workers.heartbeat`. None if the worker has no row, and so owns nothing until `enter`.

        Raises:
            OSError, sqlite3.Error: the heartbeat could not be stored, or the other workers could not be read.
        """
        try:
            self._move_counter(worker)
            attached = dict(reader.execute("SELECT id, attended FROM workers").fetchall())
        except BaseException:
            self._liveness.interrupt()
            raise
        is_entered = attached.pop(worker, None) is not None
        counts = {other: self._count_of(other) for other in attached}
        self._liveness.observe(counts)
        self.dead = frozenset(other for other in attached if self._is_dead(other, counts[other]))
        if not is_entered:
            return None
        living = [other for other in attached if self._is_alive(other)]
        return Peers(len(living), frozenset(chain.from_iterable(attached[other].split() for other in living)))

    def enter(self, cursor: sqlite3.Cursor, worker: str) -> None:
        """Insert the row of a worker that holds its lock."""
        cursor.execute(ENTER, (worker,))

    def publish_callers(self, cursor: sqlite3.Cursor, worker: str, attached: Iterable[str]) -> None:
        """See `Workers.publish_callers`."""
        cursor.execute(SET_ATTACHED, (f" {' '.join(attached)} ", worker))

    def release(self, worker: str) -> None:
        """Release a lock of this process."""
        lock = self._held.pop(worker, None)
        if lock is not None:
            os.close(lock)

    def remove_rows(self, cursor: sqlite3.Cursor, workers: Iterable[str]) -> None:
        """Remove the rows of workers whose locks are free."""
        for worker in workers:
            with self._taken(worker) as is_taken:
                if is_taken:
                    cursor.execute("DELETE FROM workers WHERE id = ?", (worker,))

    def unlink_files(self, workers: Iterable[str]) -> None:
        """Remove the files of workers whose locks are free, after their rows: a row without a file could be
        judged only by its silence.
        """
        for worker in workers:
            with self._taken(worker) as is_taken:
                if is_taken:
                    self._path(worker).unlink(missing_ok=True)

    def close(self) -> None:
        """Release all locks that this process holds, so that others see its remaining workers as dead."""
        for worker in list(self._held):
            self.release(worker)

    def orphans(
        self, reader: sqlite3.Connection, worker: str, driven: Collection[str], after: int, limit: int, *, begun: bool
    ) -> list[Orphan]:
        """See `Workers.orphans`."""
        if not begun:
            rows: Iterator[tuple[str, str, str, int, int, str]] = reader.execute(UNBEGUN, (after,))
        else:
            others = [
                other for (other,) in reader.execute("SELECT id FROM workers WHERE id <> ?", (worker,)).fetchall()
            ]
            alive = [other for other in others if self._is_alive(other)]
            sql = BEGUN.format(alive=", ".join("?" * len(alive)))
            rows = reader.execute(sql, (*alive, after, after))
        undriven = (row for row in rows if row[5] != worker or row[0] not in driven)
        return [Orphan(*row[:5]) for row in islice(undriven, limit)]

    def _is_alive(self, worker: str) -> bool:
        return worker not in self.dead and not self._liveness.is_silent(worker)

    def _is_dead(self, worker: str, count: int | None) -> bool:
        return self._liveness.is_silent(worker) if count == MISSING else self._is_free(worker)

    def _path(self, worker: str) -> Path:
        return self._folder / worker

    def _move_counter(self, worker: str) -> None:
        lock = self._held.get(worker)
        if lock is None or not _is_at(self._path(worker), lock):
            # The first heartbeat, or the file was removed: then others cannot see this lock.
            self._held[worker] = self._new_lock(worker)
            if lock is not None:
                os.close(lock)
        count = self._counts[worker] = self._counts.get(worker, 0) + 1
        os.utime(self._held[worker], (count, count))

    def _new_lock(self, worker: str) -> int:
        """Create a file that is locked before it gets its name, so that no process finds it without a lock."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        unnamed = self._folder / f"{worker}.new"
        lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unnamed, self._path(worker))
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _count_of(self, worker: str) -> int | None:
        try:
            return os.stat(self._path(worker)).st_mtime_ns
        except FileNotFoundError:
            return MISSING
        except OSError:
            return None

    def _is_free(self, worker: str) -> bool:
        """Return whether the worker's lock is free. A file that cannot be read does not count as free."""
        try:
            looking = os.open(self._path(worker), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _is_at(self._path(worker), looking)
        except OSError:
            return False
        finally:
            os.close(looking)

    @contextmanager
    def _taken(self, worker: str) -> Iterator[bool]:
        """Take the worker's lock, so that no other process can hold it. Yield False if another process holds it."""
        path = self._path(worker)
        try:
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield True
            return
        except OSError:
            yield False
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_taken = _is_at(path, lock)
        except OSError:
            is_taken = False
        try:
            yield is_taken
        finally:
            os.close(lock)


def _is_at(path: Path, file: int) -> bool:
    """Return whether the path is that of the open file.

    Raises:
        OSError: the path cannot be read.
    """
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file))

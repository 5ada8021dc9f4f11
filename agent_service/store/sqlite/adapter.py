"""Journals in one SQLite file: durable without any other software.

One thread writes (`append_queue.py`), others read in parallel on connections of their own (`readers.py`); the event
loop's thread does neither. One thread does only heartbeats, so that other work cannot delay them. Several processes of
one machine may share the file, each with its own threads and connections.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Literal, ParamSpec, Self, TypeVar

from agent_service.clock import SteadyClock
from agent_service.errors import ConfigError
from agent_service.journal.append import append_of
from agent_service.journal.append_rule import REQUEST_ID_S
from agent_service.journal.payloads import event_of
from agent_service.store.base import (
    SILENCE_MAX_S,
    Appended,
    Change,
    Orphan,
    Peers,
    Recent,
    TaskPage,
    TaskQuery,
    TaskRow,
)
from agent_service.store.liveness import Liveness
from agent_service.store.sqlite import index, recent, usage
from agent_service.store.sqlite.append_queue import OnCommit, Writer, ignore_commit, unavailable
from agent_service.store.sqlite.batch import PROBE, STATEMENTS_MAX
from agent_service.store.sqlite.integrity import look
from agent_service.store.sqlite.migrations import DatabaseRefusedError, migrate, refuse_foreign, scripts
from agent_service.store.sqlite.readers import Lane
from agent_service.store.sqlite.workers import WorkerLocks
from agent_service.store.usage import UsageQuery, UsageRow
from agent_service.v1.task_event_pb2 import TaskEvent

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

SQLITE_OLDEST = (3, 35, 0)
# How long a write waits for the commit of another process, and opening for the opening of another process.
BUSY_S = 5.0
LOCK_POLL_S = 0.02
# Threads that read journals, threads for lists and sums of callers, and the maximum time of a list or sum.
JOURNAL_READERS = 2
LIST_READERS = 3
LIST_MAX_S = 2.0
# A checkpoint starts when the log has this many pages. Large, so that pages that change often are copied less often.
LOG_PAGES = 4000
# A log that grew beyond this during a long read is truncated when it is reset.
LOG_BYTES_MAX = 32 * 1024 * 1024
# Tasks of a session erased per commit, so that other writes do not wait long.
ERASED_AT_ONCE = 100
KEY_MAX = 2**63 - 1

READ = """
    SELECT payload, sequence FROM events
    WHERE task_key = (SELECT task_key FROM tasks WHERE id = ?) AND sequence > ? ORDER BY sequence LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class _Opened:
    identity: Sequence[tuple[int, int]]
    writer: Writer
    index: Lane
    journals: Lane
    lists: Lane
    heartbeat: Lane
    workers: WorkerLocks
    resources: ExitStack


class SqliteStore:
    """The store port on one file. Open it with `async with`, in the loop that uses it.

    Raises:
        ConfigError: on opening: the file cannot be written, belongs to another program, is damaged, or has a newer
            schema. It is left unchanged. Damage is detected only on one path through each table and index, because
            reading everything would take too long; `backup` reads everything.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        silence_max_s: float = SILENCE_MAX_S,
        clock: Callable[[], float] = time.monotonic,
        on_commit: OnCommit = ignore_commit,
    ) -> None:
        self._path = Path(path)
        self._on_commit = on_commit
        self._liveness = Liveness(silence_max_s, clock)
        self._now_s = SteadyClock()
        self._opened: _Opened | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._opened = await asyncio.to_thread(_open, self._path, loop, self._liveness, self._on_commit)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Store queued appends, then close the file."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.writer.hand_over()
            # In one thread, so that it completes even if this is cancelled. The last connection to close checkpoints.
            await asyncio.to_thread(opened.resources.close)

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        """See `Journal.append`. Queued before the first wait."""
        if self._opened is None:
            raise unavailable()
        appended: Appended = await self._opened.writer.put(append_of(events, attempt=attempt, after=after))
        return appended

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """See `Journal.read`."""
        return await self._reading_in("journals", _read, task_id, after_sequence, limit)

    async def check(self) -> None:
        """See `Journal.check`. The write shares a commit with whatever else is queued."""
        if self._opened is None:
            raise unavailable()
        if await asyncio.to_thread(_identity, self._path) != self._opened.identity:
            # Writes still go to the file that was opened, which has no name any more.
            raise unavailable(message="the task store's file was removed or replaced: put it back, and restart")
        await self._opened.writer.put(None)

    async def of_request(self, tenant: str, request_id: str) -> str:
        """See `TaskIndex.of_request`."""
        since_us = int((self._now_s() - REQUEST_ID_S) * 1e6)
        return await self._reading(index.of_request, tenant, request_id, since_us)

    async def find(self, task_id: str) -> TaskRow | None:
        """See `TaskIndex.find`."""
        return await self._reading(index.find, task_id)

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        """See `TaskIndex.list_tasks`."""
        return await self._reading_in("lists", index.list_tasks, query)

    async def follow(self, after_position: int, *, limit: int = 1000) -> list[Change]:
        """See `Journal.follow`."""
        return await self._reading(index.follow, after_position, limit)

    async def position(self) -> int:
        """See `Journal.position`."""
        return await self._reading(index.position)

    async def waiting_for_input(self) -> int:
        """See `TaskIndex.waiting_for_input`."""
        return await self._reading(index.waiting_for_input)

    async def heartbeat(self, worker: str) -> Peers:
        """See `Workers.heartbeat`."""
        peers = await self._in_heartbeat_thread(WorkerLocks.heartbeat, worker)
        if peers is None:
            await self._writing(self._workers.enter, worker)
            peers = await self._in_heartbeat_thread(WorkerLocks.heartbeat, worker)
        return peers or Peers(0, frozenset())

    async def publish_callers(self, worker: str, attached: Collection[str]) -> None:
        """See `Workers.publish_callers`."""
        await self._writing(self._workers.publish_callers, worker, tuple(attached))

    async def deregister(self, worker: str) -> None:
        """See `Workers.deregister`. After the first step others find the lock free, even if the second step fails."""
        await self._in_heartbeat_thread(lambda workers, _, released: workers.release(released), worker)
        await self._remove((worker,))

    async def _remove(self, dead: Collection[str]) -> None:
        await self._writing(self._workers.remove_rows, dead)
        await self._in_heartbeat_thread(lambda workers, _, removed: workers.unlink_files(removed), dead)

    async def orphans(
        self, worker: str, driven: Collection[str] = (), *, begun: bool, after: int = 0, limit: int = 1000
    ) -> list[Orphan]:
        """See `Workers.orphans`. Also removes dead workers."""
        dead = self._workers.dead
        orphans = await self._reading(self._workers.orphans, worker, frozenset(driven), after, limit, begun=begun)
        if dead and begun:
            await self._remove(dead)
        return orphans

    async def overdue(self, now_us: int, *, limit: int = 1000) -> list[str]:
        """See `TaskIndex.overdue`."""
        return await self._reading(index.overdue, now_us, limit)

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        """See `UsageLedger.usage`."""
        return await self._reading_in("lists", usage.usage, query)

    async def erase(self, task_id: str) -> bool:
        """See `Retention.erase`."""
        return await self._writing(index.erase, task_id)

    async def erase_session(self, tenant: str, session_id: str) -> int:
        """See `Retention.erase_session`. In several commits: tasks added meanwhile begin a new session."""
        newest_key, erased, total = KEY_MAX, ERASED_AT_ONCE, 0
        while erased == ERASED_AT_ONCE:
            erased, newest_key = await self._writing(
                index.erase_session, tenant, session_id, newest_key, ERASED_AT_ONCE
            )
            total += erased
        return total

    async def erase_finished(self, before_us: int, *, limit: int) -> int:
        """See `Retention.erase_finished`."""
        return await self._writing(index.erase_finished, before_us, limit)

    async def recent(self, since_us: int) -> AsyncIterator[list[Recent]]:
        """See `History.recent`."""
        place: recent.Place | None = recent.Place()
        unfinished: set[int] = set()  # at the time of the read; some may have finished since
        while place is not None:
            is_finished = place.finished
            found, place = await self._reading(recent.page, since_us, place)
            yield [task for key, task in found if not is_finished or key not in unfinished]
            if not is_finished:
                unfinished.update(key for key, _ in found)

    @property
    def _workers(self) -> WorkerLocks:
        if self._opened is None:
            raise unavailable()
        return self._opened.workers

    async def _writing(self, work: Callable[Concatenate[sqlite3.Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in the writer's thread, in a commit of its own."""
        if self._opened is None:
            raise unavailable()
        done: T = await self._opened.writer.put(None, lambda cursor: work(cursor, *args, **kwargs))
        return done

    async def _reading(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query by key, or of the engine, in the lane `index`."""
        return await self._reading_in("index", query, *args, **kwargs)

    async def _reading_in(
        self,
        lane: Literal["index", "journals", "lists"],
        query: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if self._opened is None:
            raise unavailable()
        lanes = {"index": self._opened.index, "journals": self._opened.journals, "lists": self._opened.lists}
        try:
            return await lanes[lane].read(query, *args, **kwargs)
        except sqlite3.Error as exc:
            raise unavailable(exc) from exc

    async def _in_heartbeat_thread(self, work: Callable[[WorkerLocks, sqlite3.Connection, A], T], about: A) -> T:
        """Run `work` in the heartbeat's thread."""
        if self._opened is None:
            raise unavailable()
        opened = self._opened
        try:
            return await opened.heartbeat.read(lambda connection: work(opened.workers, connection, about))
        except (OSError, sqlite3.Error) as exc:
            raise unavailable(exc) from exc


def _read(connection: sqlite3.Connection, task_id: str, after_sequence: int, limit: int) -> list[TaskEvent]:
    return [event_of(*row) for row in connection.execute(READ, (task_id, after_sequence, limit)).fetchall()]


def _open(path: Path, loop: asyncio.AbstractEventLoop, liveness: Liveness, on_commit: OnCommit) -> _Opened:
    """Lock, check, then write: a file of another program is not changed."""
    if sqlite3.sqlite_version_info < SQLITE_OLDEST:
        raise ConfigError([f"SQLite {sqlite3.sqlite_version} is too old; agent-service needs 3.35"])
    real = Path(os.path.realpath(path))  # so that two names of one file have one lock
    with ExitStack() as resources:
        try:
            with _locked(real):
                os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                with closing(_connect_read_only(real)) as looking:
                    if refuse_foreign(looking) == len(scripts()):
                        look(looking)
                writing = sqlite3.connect(
                    real,
                    timeout=BUSY_S,
                    isolation_level=None,
                    check_same_thread=False,
                    cached_statements=STATEMENTS_MAX,
                )
                resources.callback(writing.close)
                _configure(writing)
                migrate(writing)
                # Fails early on a full disk.
                writing.execute(PROBE)
                # Opened now, so that an unreadable file is reported at once.
                readers = [_connect_read_only(real) for _ in range(2 + JOURNAL_READERS + LIST_READERS)]
        except BlockingIOError as exc:
            raise ConfigError([f"{path} is being opened by another process that does not finish"]) from exc
        except DatabaseRefusedError as exc:
            raise ConfigError([f"{path} {exc}"]) from exc
        except (OSError, sqlite3.Error) as exc:
            raise ConfigError([f"{path} {_what_is_wrong(real, exc)}"]) from exc
        workers = WorkerLocks(real, liveness)
        resources.callback(workers.close)
        writer = Writer(writing, loop, on_commit)
        resources.callback(writer.stop)
        heartbeat = Lane("heartbeat", readers[:1], resources)
        index = Lane("index", readers[1:2], resources)
        journals = Lane("journals", readers[2 : 2 + JOURNAL_READERS], resources)
        lists = Lane("lists", readers[2 + JOURNAL_READERS :], resources, read_max_s=LIST_MAX_S)
        return _Opened(_identity(path), writer, index, journals, lists, heartbeat, workers, resources.pop_all())


def _identity(path: Path) -> Sequence[tuple[int, int]]:
    """Return the device and inode of the files that have the names of the database and of its log."""
    found = []
    for name in (path, Path(f"{os.path.realpath(path)}-wal")):
        try:
            status = os.stat(name)
        except OSError:
            found.append((0, 0))
        else:
            found.append((status.st_dev, status.st_ino))
    return found


@contextmanager
def _locked(real: Path) -> Iterator[None]:
    """Hold `<path>.lock`: one process at a time checks, creates and migrates. The lock file is not removed afterwards,
    because another process may have locked it meanwhile.

    Raises:
        BlockingIOError: another process has held it for BUSY_S.
    """
    lock = os.open(f"{real}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + BUSY_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(lock)


def _connect_read_only(real: Path) -> sqlite3.Connection:
    """Open a read-only connection, which neither recovers a log into the file nor checkpoints."""
    return sqlite3.connect(f"{real.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)


def _configure(writing: sqlite3.Connection) -> None:
    (mode,) = writing.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseRefusedError("is on a file system that SQLite's write-ahead log does not work on")
    # FULL syncs the log at every commit; with less, a power cut loses what was acknowledged.
    writing.execute("PRAGMA synchronous = FULL")
    writing.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    writing.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
    # Erased data is overwritten; the default depends on SQLite's build.
    writing.execute("PRAGMA secure_delete = ON")
    # The file's directory may be the only writable one.
    writing.execute("PRAGMA temp_store = MEMORY")


def _what_is_wrong(real: Path, exc: OSError | sqlite3.Error) -> str:
    """Return the problem, as the rest of a sentence that begins with the file's name."""
    if isinstance(exc, sqlite3.Error):
        if getattr(exc, "sqlite_errorname", None) == "SQLITE_NOTADB":
            return "is not a SQLite database"
        return f"cannot be used: {exc}"
    if not real.parent.is_dir():
        return f"cannot be made: there is no directory {real.parent}"
    return f"cannot be opened for writing: {os.strerror(exc.errno or 0)}"

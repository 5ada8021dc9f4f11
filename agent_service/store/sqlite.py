"""Journals in one SQLite file: durable with nothing else installed.

One thread writes (`writer.py`), another reads beside it on a connection of its own; the event loop's does neither. One
process at a time, and an OS lock holds it to that.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from agent_service.errors import ConfigError
from agent_service.store.batch import STATEMENTS_MAX
from agent_service.store.entry import entry_of, event_of
from agent_service.store.migrations import DatabaseRefusedError, migrate, refuse_foreign
from agent_service.store.writer import Writer, unavailable
from agent_service.v1.task_event_pb2 import TaskEvent

T = TypeVar("T")

URL_PREFIX = "sqlite:///"
SQLITE_OLDEST = (3, 35, 0)

READ = """
    SELECT payload, sequence FROM events
    WHERE task_key = (SELECT task_key FROM tasks WHERE id = ?) AND sequence > ? ORDER BY sequence LIMIT ?
"""
# The condition is that of the index, word by word.
UNFINISHED = "SELECT id FROM tasks WHERE state NOT IN (4, 5, 6, 7) AND id > ? ORDER BY id LIMIT ?"


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: Writer
    reader: sqlite3.Connection
    reading: ThreadPoolExecutor
    resources: ExitStack


class SqliteStore:
    """The store port on one file. Open it with `async with`, in the loop that uses it.

    Raises:
        ConfigError: on opening: the file cannot be written, is not ours, is damaged, newer than us, or in use. It is
            left as it was. Only what opening reads is looked at for damage: reading all of it would take too long.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._opened: _Opened | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """`sqlite:///relative.db` or `sqlite:////absolute/path.db`; no options, nothing is unescaped."""
        path = url.removeprefix(URL_PREFIX)
        if path == url or not path or path.startswith(":") or "?" in path:
            raise ConfigError([f"'{url}' is not a SQLite URL; write sqlite:///relative.db or sqlite:////absolute.db"])
        return cls(path)

    async def __aenter__(self) -> Self:
        self._opened = await asyncio.to_thread(_open, self._path, asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Store what is queued, then let go of the file."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.writer.hand_over()
            # In one thread to the end, also if we are canceled meanwhile. The last connection to close checkpoints.
            await asyncio.to_thread(opened.resources.close)

    def append(self, events: Sequence[TaskEvent], *, attempt: int | None) -> Awaitable[None]:
        """See `Store.append`. Queued when this returns."""
        try:
            if self._opened is None:
                raise unavailable()
            return self._opened.writer.put(entry_of(events, attempt=attempt))
        except Exception as exc:  # noqa: BLE001 - every fate of an append comes out of the awaitable
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(exc)
            return failed

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """See `Store.read`."""
        return await self._fetch(READ, (task_id, after_sequence, limit), event_of)

    async def unfinished(self, *, after_task_id: str = "", limit: int = 1000) -> list[str]:
        """See `Store.unfinished`."""
        return await self._fetch(UNFINISHED, (after_task_id, limit), str)

    async def check(self) -> None:
        """See `Store.check`. The write shares a commit with whatever else is queued."""
        if self._opened is None:
            raise unavailable()
        await self._opened.writer.put(None)

    async def _fetch(self, query: str, values: tuple[object, ...], made_of: Callable[..., T]) -> list[T]:
        if self._opened is None:
            raise unavailable()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._opened.reading, _fetch, self._opened.reader, query, values, made_of
            )
        except sqlite3.Error as exc:
            raise unavailable(exc) from exc


def _fetch(
    connection: sqlite3.Connection, query: str, values: tuple[object, ...], made_of: Callable[..., T]
) -> list[T]:
    return [made_of(*row) for row in connection.execute(query, values).fetchall()]


def _open(path: Path, loop: asyncio.AbstractEventLoop) -> _Opened:
    """Lock, look, then write: nothing is changed before it is known to be ours."""
    if sqlite3.sqlite_version_info < SQLITE_OLDEST:
        raise ConfigError([f"SQLite {sqlite3.sqlite_version} is too old; agent-service needs 3.35"])
    real = Path(os.path.realpath(path))  # so that two names of one file have one lock
    with ExitStack() as resources:
        try:
            resources.callback(os.close, _lock(real))
            os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(_connect_read_only(real)) as looking:
                refuse_foreign(looking)
            writing = sqlite3.connect(
                real, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_MAX
            )
            resources.callback(writing.close)
            _configure(writing)
            migrate(writing)
            reader = _connect_read_only(real)
        except BlockingIOError as exc:
            raise ConfigError([f"{path} is in use by another agent-service process"]) from exc
        except DatabaseRefusedError as exc:
            raise ConfigError([f"{path} {exc}"]) from exc
        except (OSError, sqlite3.Error) as exc:
            raise ConfigError([f"{path} {_what_is_wrong(real, exc)}"]) from exc
        writer = Writer(writing, loop)
        resources.callback(writer.stop)
        resources.callback(reader.close)
        reading = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        resources.callback(reading.shutdown)
        return _Opened(writer, reader, reading, resources.pop_all())


def _lock(real: Path) -> int:
    """Hold `<path>.lock`. The file stays when we go: removing it could take the lock from under somebody else."""
    lock = os.open(f"{real}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _connect_read_only(real: Path) -> sqlite3.Connection:
    """Beside the writer, and before it: a connection like this neither recovers a log into the file nor checkpoints."""
    return sqlite3.connect(f"{real.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)


def _configure(writing: sqlite3.Connection) -> None:
    (mode,) = writing.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseRefusedError("is on a file system that SQLite's write-ahead log does not work on")
    # FULL syncs the log at every commit; with less, a power cut loses what was acknowledged.
    writing.execute("PRAGMA synchronous = FULL")
    # 16 MiB of log before it is copied into the file: pages that change often are copied less often.
    writing.execute("PRAGMA wal_autocheckpoint = 4000")
    # The file's directory may be the only one that can be written to.
    writing.execute("PRAGMA temp_store = MEMORY")


def _what_is_wrong(real: Path, exc: OSError | sqlite3.Error) -> str:
    """The rest of a sentence that begins with the file's name."""
    if isinstance(exc, sqlite3.Error):
        if getattr(exc, "sqlite_errorname", None) == "SQLITE_NOTADB":
            return "is not a SQLite database"
        return f"cannot be used: {exc}"
    if not real.parent.is_dir():
        return f"cannot be made: there is no directory {real.parent}"
    return f"cannot be opened for writing: {os.strerror(exc.errno or 0)}"

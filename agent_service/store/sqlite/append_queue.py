"""The writer thread: the one place of a process that writes to a SQLite journal, many appends to a commit.

While one commit is being synced the next appends gather; so the slower the disk, the more appends share a sync. It
knows nothing of files, locks and schemas.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, NamedTuple

from agent_service.errors import AgentServiceError, InternalError, OverloadedError
from agent_service.journal.append import Append
from agent_service.journal.refusals import AppendRefusedError
from agent_service.store.base import Appended
from agent_service.store.sqlite.batch import Batch
from agent_service.v1 import error_reason_pb2 as reasons

APPENDS_PER_COMMIT_MAX = 512
APPENDS_QUEUED_MAX = 10_000
# How long a busy loop may gather appends for one commit, and what turn of it counts as idle.
GATHER_S = 0.003
IDLE_TURN_S = 0.00005

logger = logging.getLogger(__name__)


# Told, in the writer's thread, of every commit: how many appends shared it, and how many seconds it took.
OnCommit = Callable[[int, float], object]


def ignore_commit(_: int, __: float) -> None:
    """Nobody listens."""


class Job(NamedTuple):
    """What waits for a commit: an append, other work that has a commit of its own, or else the wish to see one succeed.

    Work gets a cursor inside a transaction; what it returns is what becomes of the job.
    """

    append: Append | None
    work: Callable[[sqlite3.Cursor], Any] | None
    done: asyncio.Future[Any]


# What became of an append, or None of a probe.
Outcome = Appended | AppendRefusedError | AgentServiceError | None


class Writer:
    """Owns the connection while it runs. All methods but `stop` belong to the loop's thread."""

    def __init__(
        self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop, on_commit: OnCommit = ignore_commit
    ) -> None:
        self._connection = connection
        self._loop = loop
        self._on_commit = on_commit
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._gathered: list[Job] = []
        self._waiting = 0
        self._gathering_since = self._turn_began = 0.0
        self._failing = False
        # A daemon, so that a process that ends without closing its store does not hang: that loses nothing.
        self._thread = Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, append: Append | None, work: Callable[[sqlite3.Cursor], Any] | None = None) -> asyncio.Future[Any]:
        """Queue an append, some other work, or a probe. The future tells its fate."""
        done: asyncio.Future[Any] = self._loop.create_future()
        if self._waiting >= APPENDS_QUEUED_MAX:
            done.set_exception(unavailable())
            return done
        self._waiting += 1
        if not self._gathered:
            self._gathering_since = self._turn_began = perf_counter()
            self._loop.call_soon(self._gather)
        self._gathered.append(Job(append, work, done))
        return done

    def _gather(self) -> None:
        """Called once a turn of the loop: hand over what was put, unless the loop is busy and may bring more.

        A sync costs the same for one append and for hundreds, and the CPU that it takes is lost to the loop. A turn
        that took no time had nothing else to do, so nothing is gained by waiting.
        """
        now = perf_counter()
        idle = now - self._turn_began < IDLE_TURN_S
        if idle or now - self._gathering_since > GATHER_S or len(self._gathered) >= APPENDS_PER_COMMIT_MAX:
            self.hand_over()
        else:
            self._turn_began = now
            self._loop.call_soon(self._gather)

    def hand_over(self) -> None:
        """Give the thread what was put since the last time: once a turn of the loop, and before `stop`."""
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def stop(self) -> None:
        """Return once everything queued has its fate. Nothing may be put afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            jobs, stopping = self._take()
            for start in range(0, len(jobs), APPENDS_PER_COMMIT_MAX):
                some = jobs[start : start + APPENDS_PER_COMMIT_MAX]
                appends = [job for job in some if job.work is None]
                outcomes: list[Any] = self._commit(appends) if appends else []
                others = [job for job in some if job.work is not None]
                outcomes += [self._work(job) for job in others]
                some = appends + others
                # The loop may have ended without closing us; then nobody waits.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._resolve, some, outcomes)

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for jobs and take all that are there; True if they are the last."""
        jobs: list[Job] = []
        more = self._queue.get()
        while more is not None:
            jobs += more
            if self._queue.empty():
                return jobs, False
            more = self._queue.get()
        return jobs, True

    def _commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        batch = [job.append for job in jobs if job.append is not None]
        began = perf_counter()
        try:
            stored = iter(Batch(self._connection).commit(batch, probe=len(batch) < len(jobs)))
        except Exception as exc:  # noqa: BLE001 - every caller must get an outcome, and the thread must go on
            if len(jobs) > 1 and not isinstance(exc, sqlite3.OperationalError):
                # Not the medium: one append's fault, which must not fail the others'.
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                return [outcome for job in jobs for outcome in self._commit([job])]
            self._roll_back(exc)
            return [unavailable(exc) if isinstance(exc, sqlite3.Error) else _fault(exc) for _ in jobs]
        self._committed(len(jobs), perf_counter() - began)
        return [None if job.append is None else next(stored) for job in jobs]

    def _committed(self, appends: int, took_s: float) -> None:
        """It is durable, whatever goes wrong from here on."""
        try:
            self._on_commit(appends, took_s)
        except Exception:
            logger.exception("commit_callback_fault")
        if self._failing:
            self._failing = False
            logger.warning("store_available")

    def _work(self, job: Job) -> Any:
        assert job.work is not None
        try:
            with closing(self._connection.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                outcome = job.work(cursor)
                cursor.execute("COMMIT")
                return outcome
        except AppendRefusedError as refusal:
            self._connection.rollback()
            return refusal
        except Exception as exc:  # noqa: BLE001 - as above
            self._roll_back(exc)
            return unavailable(exc) if isinstance(exc, sqlite3.Error) else _fault(exc)

    def _roll_back(self, exc: Exception) -> None:
        if not self._failing:
            self._failing = True
            name = getattr(exc, "sqlite_errorname", type(exc).__name__)
            logger.error("store_unavailable", extra={"sqlite": name}, exc_info=exc)
        # Should this fail too, the next BEGIN does, and we are here again.
        with suppress(sqlite3.Error):
            self._connection.rollback()

    def _resolve(self, jobs: Sequence[Job], outcomes: Sequence[Any]) -> None:
        """Tell a whole batch its fate, in the loop's thread, in the order of the calls."""
        self._waiting -= len(jobs)
        for (_, _, done), outcome in zip(jobs, outcomes, strict=True):
            if done.done():  # the caller stopped waiting
                continue
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)


def unavailable(exc: Exception | None = None, message: str = "the task store is not available") -> OverloadedError:
    """Return the error that callers get where SQLite fails. SQLite's own text goes to the log only."""
    error = OverloadedError(reasons.ERROR_REASON_STORE_UNAVAILABLE, message)
    error.__cause__ = exc
    return error


def _fault(exc: Exception) -> InternalError:
    error = InternalError()
    error.__cause__ = exc
    return error

"""The writer thread: the only writer of a process to a SQLite journal, with many appends in a commit.

While one commit is being synced, the next appends are gathered: so the slower the disk, the more appends share a sync.
They are gathered further while the event loop is busy. It is independent of files, locks and schemas.
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
# How long a busy event loop may gather appends for one commit, and the length of an iteration that counts as idle.
GATHER_S = 0.02
IDLE_TURN_S = 0.00005

logger = logging.getLogger(__name__)


# Called in the writer's thread for every commit, with its number of appends and its duration in seconds.
OnCommit = Callable[[int, float], object]


def ignore_commit(_: int, __: float) -> None:
    """Do nothing."""


class Job(NamedTuple):
    """A queued job: an append, other work with a commit of its own, or a probe that a commit succeeds.

    Work gets a cursor inside a transaction; its result is the result of the job.
    """

    append: Append | None
    work: Callable[[sqlite3.Cursor], Any] | None
    done: asyncio.Future[Any]


# The outcome of an append; None for a probe.
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
        # Lists of jobs that the thread has, each for one commit.
        self._handed_over = 0
        self._gathered: list[Job] = []
        self._waiting = 0
        self._gathering_since = self._turn_began = 0.0
        self._failing = False
        # A daemon, so that a process that ends without closing its store does not hang. That loses nothing.
        self._thread = Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, append: Append | None, work: Callable[[sqlite3.Cursor], Any] | None = None) -> asyncio.Future[Any]:
        """Queue an append, other work, or a probe. The future gets its outcome."""
        done: asyncio.Future[Any] = self._loop.create_future()
        if self._waiting >= APPENDS_QUEUED_MAX:
            done.set_exception(unavailable())
            return done
        self._waiting += 1
        self._gathered.append(Job(append, work, done))
        if len(self._gathered) == 1 and not self._handed_over:
            self._begin_gathering()
        return done

    def _begin_gathering(self) -> None:
        self._gathering_since = self._turn_began = perf_counter()
        self._loop.call_soon(self._gather)

    def _gather(self) -> None:
        """Hand over the gathered jobs, unless the loop is busy and may add more. Called once per loop iteration, but
        not while the thread commits.

        A sync costs the same for one append and for hundreds, and its CPU time is lost to the loop. An iteration that
        took no time had nothing else to do, so waiting would gain nothing.
        """
        now = perf_counter()
        idle = now - self._turn_began < IDLE_TURN_S
        if idle or now - self._gathering_since > GATHER_S or len(self._gathered) >= APPENDS_PER_COMMIT_MAX:
            self.hand_over()
        else:
            self._turn_began = now
            self._loop.call_soon(self._gather)

    def hand_over(self) -> None:
        """Pass the gathered jobs to the thread; also called before `stop`."""
        for start in range(0, len(self._gathered), APPENDS_PER_COMMIT_MAX):
            self._queue.put(self._gathered[start : start + APPENDS_PER_COMMIT_MAX])
            self._handed_over += 1
        self._gathered = []

    def stop(self) -> None:
        """Return once every queued job has its outcome. Nothing may be queued afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (jobs := self._queue.get()) is not None:
            appends = [job for job in jobs if job.work is None]
            outcomes: list[Any] = self._commit(appends) if appends else []
            others = [job for job in jobs if job.work is not None]
            outcomes += [self._work(job) for job in others]
            # The loop may have ended without closing the store; then no caller waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._resolve, appends + others, outcomes)

    def _commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        batch = [job.append for job in jobs if job.append is not None]
        began = perf_counter()
        try:
            stored = iter(Batch(self._connection).commit(batch, probe=len(batch) < len(jobs)))
        except Exception as exc:  # noqa: BLE001 - every caller must get an outcome, and the thread must go on
            if len(jobs) > 1 and not isinstance(exc, sqlite3.OperationalError):
                # The cause is one append, not the medium: it must not fail the others.
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                return [outcome for job in jobs for outcome in self._commit([job])]
            self._roll_back(exc)
            return [unavailable(exc) if isinstance(exc, sqlite3.Error) else _fault(exc) for _ in jobs]
        self._committed(len(jobs), perf_counter() - began)
        return [None if job.append is None else next(stored) for job in jobs]

    def _committed(self, appends: int, took_s: float) -> None:
        """Report a durable commit. Errors here must not affect it."""
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
            with suppress(sqlite3.Error):  # as in `_roll_back`: the thread must go on
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
        # If this fails too, so does the next BEGIN, which leads here again.
        with suppress(sqlite3.Error):
            self._connection.rollback()

    def _resolve(self, jobs: Sequence[Job], outcomes: Sequence[Any]) -> None:
        """Set the outcomes of a batch, in the loop's thread, in the order of the calls."""
        self._waiting -= len(jobs)
        self._handed_over -= 1
        if self._gathered and not self._handed_over:
            self._begin_gathering()
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

"""The threads that sync tools run in.

Not `concurrent.futures`: its threads are joined when the interpreter exits, and a tool that hangs would hang the exit.
These are daemons. Knows nothing of tools: whose work it is, is told by keys.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Work that was abandoned leaves the count of the threads, up to so many times their number in all.
ABANDONED_FACTOR = 4
# No key has more than this part of the threads, nor of the places of what was abandoned.
PART = 0.5


class TooManyAbandonedError(Exception):
    """So many threads are held by abandoned work, of these keys or of all, that no more of it is begun."""


class Threads:
    """At most `threads_max` threads that work, started when they are needed and kept. Used from one event loop.

    Whose work it is is told by keys: none of them has more than PART of the threads, so that there is room for others
    whatever becomes of it. Work that was abandoned cannot be stopped; its thread leaves the count, another is started
    in its place, and it ends when it returns.
    """

    def __init__(self, threads_max: int) -> None:
        self.threads_max = threads_max
        self.abandoned_max = threads_max * ABANDONED_FACTOR
        self._queue: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._started = 0
        self._closed = False
        self._working = _Places(threads_max)
        self._abandoned = _Places(self.abandoned_max)
        self._jobs: dict[asyncio.Future[Any], _Job[Any]] = {}
        self._waiting: list[tuple[tuple[Hashable, ...], asyncio.Future[None]]] = []

    @property
    def working(self) -> int:
        """How many threads work, those that were abandoned apart; may be asked from another thread."""
        return self._working.taken

    @property
    def abandoned(self) -> int:
        """How many threads abandoned work holds that has not returned; may be asked from another thread."""
        return self._abandoned.taken

    async def start(self, work: Callable[[], T], keys: tuple[Hashable, ...] = ()) -> asyncio.Future[T]:
        """Wait for a free thread and begin `work` in it, in a copy of the caller's context.

        `work` must not raise. Its thread is free again when it returns; see `abandon`.

        Raises:
            TooManyAbandonedError: work of these keys, or all, holds as many threads as may be abandoned.
            RuntimeError: the threads were closed, or the system gives no more of them.
        """
        if not self._abandoned.has_room(keys):
            raise TooManyAbandonedError
        await self._place(keys)
        # No await from here on: a place that was taken is used, or given back.
        try:
            self._have_idle_thread()
        except RuntimeError:
            self._give_back(keys)
            raise
        job = _Job(self, work, keys)
        self._jobs[job.future] = job
        self._queue.put(job)
        return job.future

    def abandon(self, future: asyncio.Future[Any]) -> None:
        """Nobody waits for this work any more."""
        job = self._jobs.get(future)
        if job is not None and not job.is_abandoned:
            job.is_abandoned = True
            self._abandoned.take(job.keys)
            self._started -= 1
            self._give_back(job.keys)

    def close(self) -> None:
        """Let the threads end, each when its work is done. Waits for none."""
        self._closed = True
        for _ in range(self._started + self.abandoned):
            self._queue.put(None)

    async def _place(self, keys: tuple[Hashable, ...]) -> None:
        """Wait for a place, behind those who came before and have the same room."""
        if self._working.has_room(keys):
            self._working.take(keys)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (keys, turn)
        self._waiting.append(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(waiter)
            else:
                self._give_back(keys)
            raise

    def _give_back(self, keys: tuple[Hashable, ...]) -> None:
        self._working.give_back(keys)
        for waiter in list(self._waiting):
            waits_for, turn = waiter
            if self._working.is_full:
                return
            if not turn.done() and self._working.has_room(waits_for):
                self._working.take(waits_for)
                self._waiting.remove(waiter)
                turn.set_result(None)

    def _have_idle_thread(self) -> None:
        if self._closed:
            raise RuntimeError("no work is begun after the end")
        # The place that the caller has taken is counted, and has no thread yet.
        if self._working.taken <= self._started:
            return
        name = f"tool-{self._started + 1}"
        threading.Thread(target=_run_jobs, args=(self._queue,), name=name, daemon=True).start()
        self._started += 1

    def _done(self, job: _Job[Any]) -> None:
        del self._jobs[job.future]
        if not job.is_abandoned:
            self._give_back(job.keys)
            return
        self._abandoned.give_back(job.keys)
        # There is one thread more than is counted: this one, or another that is idle, ends.
        self._queue.put(None)


class _Places:
    """So many places, of which no key has more than its part."""

    def __init__(self, places_max: int) -> None:
        self._max = places_max
        self._part_max = max(1, int(places_max * PART))
        self._of_key: Counter[Hashable] = Counter()
        self.taken = 0

    @property
    def is_full(self) -> bool:
        return self.taken >= self._max

    def has_room(self, keys: tuple[Hashable, ...]) -> bool:
        return not self.is_full and all(self._of_key[key] < self._part_max for key in keys)

    def take(self, keys: tuple[Hashable, ...]) -> None:
        self.taken += 1
        self._of_key.update(keys)

    def give_back(self, keys: tuple[Hashable, ...]) -> None:
        self.taken -= 1
        for key in keys:
            self._of_key[key] -= 1
            if not self._of_key[key]:
                del self._of_key[key]


class _Job(Generic[T]):
    """One piece of work, on its way to a thread and back."""

    def __init__(self, threads: Threads, work: Callable[[], T], keys: tuple[Hashable, ...]) -> None:
        self.keys = keys
        self.is_abandoned = False
        self._threads = threads
        self._work = work
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def run(self) -> None:
        """In the thread."""
        result = self._context.run(self._work)
        try:
            self._loop.call_soon_threadsafe(self._done, result)
        except RuntimeError:
            # The loop was closed meanwhile: nobody is there to be told.
            return

    def _done(self, result: T) -> None:
        self._threads._done(self)
        if not self.future.done():
            self.future.set_result(result)


def _run_jobs(queue: SimpleQueue[_Job[Any] | None]) -> None:
    while (job := queue.get()) is not None:
        job.run()
        # Or an idle thread would keep its last work, and its result, alive.
        del job

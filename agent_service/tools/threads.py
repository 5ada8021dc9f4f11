"""The threads of sync tools.

Not `concurrent.futures`: its threads are joined when the interpreter exits, so a tool that hangs would block the exit.
These are daemon threads. Independent of tools: keys identify the owners of work.
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

# Abandoned work is not counted in the threads, up to this multiple of their maximum in total.
ABANDONED_FACTOR = 4
# The share of the threads, and of the places for abandoned work, that one key may use.
PART = 0.5


class TooManyAbandonedError(Exception):
    """Abandoned work, of these keys or in total, occupies the maximum number of threads; no more work is started."""


class Threads:
    """At most `threads_max` working threads, started on demand and kept. Used from one event loop.

    Keys identify the owners of work. No key uses more than PART of the threads, so that others always have room.
    Abandoned work cannot be stopped: its thread is no longer counted, another may be started in its place, and the
    thread ends when the work returns.
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
        """The number of working threads, without abandoned ones. Can be read from another thread."""
        return self._working.taken

    @property
    def abandoned(self) -> int:
        """The number of threads occupied by abandoned work. Can be read from another thread."""
        return self._abandoned.taken

    async def start(self, work: Callable[[], T], keys: tuple[Hashable, ...] = ()) -> asyncio.Future[T]:
        """Wait for a free thread and start `work` in it, in a copy of the caller's context.

        `work` must not raise. Its thread is free again when it returns; see `abandon`.

        Raises:
            TooManyAbandonedError: abandoned work of these keys, or in total, occupies the maximum number of threads.
            RuntimeError: the threads were closed, or the system cannot start another.
        """
        if not self._abandoned.has_room(keys):
            raise TooManyAbandonedError
        await self._place(keys)
        # No await from here on, so that the place is either used or released.
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
        """Stop counting the thread of this work: the caller no longer waits for it."""
        job = self._jobs.get(future)
        if job is not None and not job.is_abandoned:
            job.is_abandoned = True
            self._abandoned.take(job.keys)
            self._started -= 1
            self._give_back(job.keys)

    def close(self) -> None:
        """End the threads, each when its work is done. Does not wait."""
        self._closed = True
        for _ in range(self._started + self.abandoned):
            self._queue.put(None)

    async def _place(self, keys: tuple[Hashable, ...]) -> None:
        """Wait for a place, after earlier callers that also fit."""
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
            raise RuntimeError("no work is started after close")
        # The caller's place is already counted, but may have no thread yet.
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
        # One thread is not counted: this one, or another idle one, must end.
        self._queue.put(None)


class _Places:
    """A number of places, of which no key may take more than its part."""

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
    """A unit of work that runs in a thread and returns its result to the loop."""

    def __init__(self, threads: Threads, work: Callable[[], T], keys: tuple[Hashable, ...]) -> None:
        self.keys = keys
        self.is_abandoned = False
        self._threads = threads
        self._work = work
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def run(self) -> None:
        """Run the work; called in the thread."""
        result = self._context.run(self._work)
        try:
            self._loop.call_soon_threadsafe(self._done, result)
        except RuntimeError:
            # The loop was closed in the meantime: the result has no receiver.
            return

    def _done(self, result: T) -> None:
        self._threads._done(self)
        if not self.future.done():
            self.future.set_result(result)


def _run_jobs(queue: SimpleQueue[_Job[Any] | None]) -> None:
    while (job := queue.get()) is not None:
        job.run()
        # Otherwise an idle thread would keep its last work, and the result, alive.
        del job

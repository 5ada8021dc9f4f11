"""The threads that sync tools run in.

Not `concurrent.futures`: its threads are joined when the interpreter exits, and a tool that hangs would hang the exit.
These are daemons. Knows nothing of tools.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Threads:
    """At most `threads_max` threads, started when they are needed and kept. Used from one event loop."""

    def __init__(self, threads_max: int) -> None:
        self._free = asyncio.Semaphore(threads_max)
        self._queue: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._started = 0
        self._busy = 0
        self._closed = False

    async def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Wait for a free thread and begin `work` in it, in a copy of the caller's context.

        `work` must not raise. It cannot be stopped: cancelling, or dropping, the future gives up its result alone, and
        its thread is free again when it returns.

        Raises:
            RuntimeError: the threads were closed, or the system gives no more of them.
        """
        await self._free.acquire()
        # No await from here on: a thread that was taken is used, or given back.
        try:
            self._have_idle_thread()
        except RuntimeError:
            self._free.release()
            raise
        self._busy += 1
        job = _Job(self, work)
        self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Let the threads end, each when its work is done. Waits for none."""
        self._closed = True
        for _ in range(self._started):
            self._queue.put(None)

    def _have_idle_thread(self) -> None:
        if self._closed:
            raise RuntimeError("no work is begun after the end")
        if self._busy < self._started:
            return
        name = f"tool-{self._started + 1}"
        threading.Thread(target=_run_jobs, args=(self._queue,), name=name, daemon=True).start()
        self._started += 1

    def _freed(self) -> None:
        self._busy -= 1
        self._free.release()


class _Job(Generic[T]):
    """One piece of work, on its way to a thread and back."""

    def __init__(self, threads: Threads, work: Callable[[], T]) -> None:
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
        self._threads._freed()
        if not self.future.done():
            self.future.set_result(result)


def _run_jobs(queue: SimpleQueue[_Job[Any] | None]) -> None:
    while (job := queue.get()) is not None:
        job.run()
        # Or an idle thread would keep its last work, and its result, alive.
        del job

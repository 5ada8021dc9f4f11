"""Takes the events of a completion queue and calls their tags, on the event loop.

While there are events, the loop polls the queue at each turn without waiting. When there is none, a thread waits for
the next one and hands it over: one wake-up for each time that the queue was empty, not for each event.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

from agent_service.server.transport.loop.core import QUEUE_SHUTDOWN, QUEUE_TIMEOUT

# So many events in a turn of the loop: other callbacks have their turn in between.
EVENTS_MAX = 256
AT_ONCE = 0.0

logger = logging.getLogger(__name__)


class Pump:
    """Runs from `start` until the queue has shut down. A tag is a function of the event.

    `on_lost` is called for an event that cygrpc could not convert.
    """

    def __init__(self, queue: Any, on_lost: Callable[[], None]) -> None:
        self._queue = queue
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._ended = self._loop.create_future()
        self._has_ended = False
        # Held while the loop polls; the thread polls once it has acquired it.
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._wait, name="grpc-queue", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def ended(self) -> None:
        """Wait until the queue has shut down and its last event has been handled."""
        await asyncio.shield(self._ended)
        await asyncio.to_thread(self._thread.join)

    def _wait(self) -> None:
        while True:
            self._turn.acquire()
            if self._has_ended:
                return
            event = self._poll(None)
            try:
                self._loop.call_soon_threadsafe(self._first, event, context=self._context)
            except RuntimeError:
                return  # the loop has been closed
            del event  # it may keep a call alive

    def _first(self, event: Any) -> None:
        try:
            self._handle(event)
        finally:
            del event
            self._pump()

    def _pump(self) -> None:
        count = EVENTS_MAX
        try:
            count = self._take()
        finally:
            if self._has_ended:
                pass  # there are no more events
            elif count:
                self._loop.call_soon(self._pump)
            else:
                self._turn.release()

    def _take(self) -> int:
        """Handle the events that are there; return how many."""
        for count in range(EVENTS_MAX):
            if self._has_ended:
                return count
            event = self._poll(AT_ONCE)
            if event is not None and event.completion_type == QUEUE_TIMEOUT:
                return count
            self._handle(event)
            del event
        return EVENTS_MAX

    def _poll(self, deadline: float | None) -> Any:
        """Return the next event, or one of the type QUEUE_TIMEOUT; None if it was lost."""
        try:
            return self._queue.poll(deadline)
        except Exception:
            logger.exception("an event of gRPC could not be read")
            return None

    def _handle(self, event: Any) -> None:
        try:
            if event is None:
                self._on_lost()
            elif event.completion_type == QUEUE_SHUTDOWN:
                self._end()
            elif event.completion_type != QUEUE_TIMEOUT:
                event.tag(event)
        except Exception:
            logger.exception("an event of gRPC could not be handled")

    def _end(self) -> None:
        self._has_ended = True
        self._turn.release()
        if not self._ended.done():
            self._ended.set_result(None)

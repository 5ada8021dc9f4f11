"""What the pump does with events that no server sends on purpose."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from agent_service.server.transport.loop.core import QUEUE_SHUTDOWN, QUEUE_TIMEOUT
from agent_service.server.transport.loop.pump import EVENTS_MAX, Pump

DONE = 2
PATIENCE_S = 20.0


class Event(NamedTuple):
    completion_type: int
    tag: Callable[[Any], None] | None = None


class FakeQueue:
    """A completion queue that a test fills; an exception in it is raised by `poll`."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()

    def put(self, *events: Event | Exception) -> None:
        for event in events:
            self._events.put(event)

    def poll(self, deadline: float | None) -> Event:
        try:
            event = self._events.get(block=deadline is None)
        except queue.Empty:
            return Event(QUEUE_TIMEOUT)
        if isinstance(event, Exception):
            raise event
        return event


def note(seen: list[int], number: int, _: Any) -> None:
    seen.append(number)


@pytest.mark.parametrize("at_once", [1, 3 * EVENTS_MAX])
async def test_events_are_handled_in_their_order_to_the_last(at_once: int) -> None:
    seen: list[int] = []
    events = FakeQueue()
    pump = Pump(events, lambda: None)
    pump.start()
    for first in (0, at_once):
        numbers = range(first, first + at_once)
        events.put(*(Event(DONE, partial(note, seen, number)) for number in numbers))
        await asyncio.sleep(0.01)
    events.put(Event(QUEUE_SHUTDOWN))
    async with asyncio.timeout(PATIENCE_S):
        await pump.ended()
    assert seen == list(range(2 * at_once))


@pytest.mark.parametrize("after", [0, 1])
async def test_an_event_that_cannot_be_read_is_reported_and_the_next_ones_are_handled(
    after: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the thread takes it or the loop does."""
    seen: list[str] = []
    events = FakeQueue()
    events.put(*(Event(DONE, lambda _: seen.append("first")) for _ in range(after)))
    events.put(ValueError("no text"), Event(DONE, lambda _: seen.append("next")), Event(QUEUE_SHUTDOWN))
    pump = Pump(events, lambda: seen.append("lost"))
    pump.start()
    async with asyncio.timeout(PATIENCE_S):
        await pump.ended()
    assert seen == after * ["first"] + ["lost", "next"]
    assert "could not be read" in caplog.text


async def test_a_tag_that_raises_does_not_end_the_pump(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Any) -> None:
        raise ValueError("a bug")

    seen: list[str] = []
    events = FakeQueue()
    events.put(Event(DONE, fail), Event(DONE, lambda _: seen.append("next")), Event(QUEUE_SHUTDOWN))
    pump = Pump(events, lambda: None)
    pump.start()
    async with asyncio.timeout(PATIENCE_S):
        await pump.ended()
    assert seen == ["next"]
    assert "could not be handled" in caplog.text

"""The feed inside one process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from agent_service.feed.base import FeedClosedError, Lagged
from agent_service.v1.task_event_pb2 import ReasoningDelta, TaskEvent, TextDelta

PENDING_EVENTS_MAX = 256
MERGED_DELTA_BYTES_MAX = 64 * 1024
# Of all pieces that wait for one reader, in characters; a single one may be longer.
PENDING_TEXT_MAX = 256 * 1024


class MemorySubscription:
    """A bounded queue of one reader."""

    __slots__ = ("_is_closed", "_is_nudged", "_lost_events", "_pending", "_text_length", "_waiter")

    def __init__(self, *, is_closed: bool) -> None:
        self._pending: deque[TaskEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._text_length = 0
        self._lost_events = False
        self._is_nudged = False
        self._is_closed = is_closed

    def offer(self, event: TaskEvent) -> None:
        """Put an event at the end, merging text that nobody has read yet."""
        pending = self._pending
        length = _text_length(event)
        is_too_much = min(length, self._text_length) > 0 and length + self._text_length > PENDING_TEXT_MAX
        if length and not is_too_much and pending:
            merged = _merge(pending[-1], event)
            if merged is not None:
                pending[-1] = merged
                self._text_length += length
                return
        if is_too_much or len(pending) >= PENDING_EVENTS_MAX:
            pending.clear()
            self._text_length = 0
            self._lost_events = True
        self._text_length += length
        pending.append(event)
        self._rouse()

    def nudge(self) -> None:
        """There is more in the journal, behind what waits here."""
        self._is_nudged = True
        self._rouse()

    def close(self) -> None:
        """Nothing is offered any more."""
        self._is_closed = True
        self._rouse()

    def _rouse(self) -> None:
        if self._waiter is not None:
            _wake(self._waiter)

    async def next(self, timeout_s: float) -> TaskEvent | None:
        if not self._pending and not self._is_nudged:
            if self._is_closed:
                raise FeedClosedError
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            # A timer that resolves the same future: cheaper than asyncio.timeout for every event of every stream.
            timer = loop.call_later(timeout_s, _wake, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._lost_events:
            # What waits is behind the gap: read with it, it keeps its order.
            self._lost_events = False
            self._pending.clear()
            self._text_length = 0
            raise Lagged
        if self._pending:
            event = self._pending.popleft()
            self._text_length -= _text_length(event)
            return event
        if self._is_nudged:
            self._is_nudged = False
            raise Lagged
        if self._is_closed:
            raise FeedClosedError
        return None


class MemoryFeed:
    """Subscriptions by task."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, list[MemorySubscription]] = {}
        self._is_closed = False

    def publish(self, events: Sequence[TaskEvent]) -> None:
        if not events:
            return
        for subscription in self._subscriptions.get(events[0].task_id, ()):
            for event in events:
                subscription.offer(event)

    def nudge(self, task_id: str) -> None:
        for subscription in self._subscriptions.get(task_id, ()):
            subscription.nudge()

    def watchers(self) -> int:
        """How many subscriptions there are; may be asked from another thread."""
        return sum(map(len, list(self._subscriptions.values())))

    def watched(self) -> Collection[str]:
        return self._subscriptions.keys()

    def close(self) -> None:
        self._is_closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    @contextmanager
    def subscribe(self, task_id: str) -> Iterator[MemorySubscription]:
        subscription = MemorySubscription(is_closed=self._is_closed)
        self._subscriptions.setdefault(task_id, []).append(subscription)
        try:
            yield subscription
        finally:
            watchers = self._subscriptions[task_id]
            watchers.remove(subscription)
            if not watchers:
                del self._subscriptions[task_id]


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _text_length(event: TaskEvent) -> int:
    """The characters of a piece of live text or reasoning; 0 for any other event."""
    arm = event.WhichOneof("event")
    if arm == "text_delta":
        return len(event.text_delta.text)
    return len(event.reasoning_delta.text) if arm == "reasoning_delta" else 0


def _merge(earlier: TaskEvent, later: TaskEvent) -> TaskEvent | None:
    """Both pieces as one, or None where they do not join: another kind or try, a gap, or too long to hold."""
    arm = later.WhichOneof("event")
    if earlier.WhichOneof("event") != arm:
        return None
    a: TextDelta | ReasoningDelta
    b: TextDelta | ReasoningDelta
    if arm == "text_delta":
        a, b = earlier.text_delta, later.text_delta
    else:
        a, b = earlier.reasoning_delta, later.reasoning_delta
    joins = a.turn == b.turn and a.try_number == b.try_number and a.offset + len(a.text.encode()) == b.offset
    if not joins or b.offset - a.offset > MERGED_DELTA_BYTES_MAX:
        return None
    # A new message: the earlier one may wait in other queues too.
    merged = TaskEvent(
        task_id=later.task_id, sequence=later.sequence, create_time=later.create_time, attempt=later.attempt
    )
    joined = merged.text_delta if arm == "text_delta" else merged.reasoning_delta
    joined.turn, joined.try_number, joined.offset, joined.text = a.turn, a.try_number, a.offset, a.text + b.text
    return merged

"""The feed inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from math import inf

from agent_service.feed.base import FeedClosedError, Lagged
from agent_service.feed.frame import Frame, merged
from agent_service.feed.live_reply import LiveReply
from agent_service.v1.task_event_pb2 import TaskEvent

PENDING_EVENTS_MAX = 256
# The queued text of one reader, in characters; a single piece may be longer.
PENDING_TEXT_MAX = 256 * 1024


class MemorySubscription:
    """A bounded queue of one reader."""

    __slots__ = (
        "_is_closed",
        "_is_notified",
        "_loop",
        "_lost_events",
        "_pending",
        "_silent_at",
        "_take",
        "_text_length",
        "_timeout_s",
        "_timer",
        "_timer_at",
        "_waiter",
    )

    def __init__(self, *, is_closed: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._pending: list[Frame] = []  # nearly always empty: a deque takes 600 bytes even so
        self._waiter: asyncio.Future[None] | None = None
        self._text_length = 0
        self._lost_events = False
        self._is_notified = False
        self._is_closed = is_closed
        self._take: Callable[[Frame], bool] | None = None  # set while the reader waits
        self._timeout_s = inf
        self._silent_at = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def offer(self, frame: Frame) -> None:
        """Give a frame to the reader that waits, or append it; merge its text with queued text."""
        if self._take is not None and self._take(frame):
            self._silent_at = self._loop.time() + self._timeout_s
            return
        pending, length = self._pending, frame.text_length
        is_too_much = min(length, self._text_length) > 0 and length + self._text_length > PENDING_TEXT_MAX
        if length and pending and not is_too_much:
            joined = merged(pending[-1], frame)
            if joined is not None:
                pending[-1] = joined
                self._text_length += length
                return
        if is_too_much or len(pending) >= PENDING_EVENTS_MAX:
            self._clear()
            self._lost_events = True
        self._text_length += length
        pending.append(frame)
        self._wake()

    def notify(self) -> None:
        """Record that the journal has more events, after the queued ones."""
        self._is_notified = True
        self._wake()

    def close(self) -> None:
        """End the subscription once its queued events are read."""
        self._is_closed = True
        self._wake()

    def end(self) -> None:
        """Release the timer: the reader has left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def next(self, timeout_s: float, take: Callable[[Frame], bool] | None = None) -> Frame | None:
        if not self._pending and not self._is_notified:
            if self._is_closed:
                raise FeedClosedError
            self._timeout_s, self._take = timeout_s, take
            self._silent_at = self._loop.time() + timeout_s
            if self._timer_at > self._silent_at:
                self._arm()
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = self._take = None
        if self._lost_events:
            # Drop what is queued after the gap: the journal delivers it in order.
            self._lost_events = False
            self._clear()
            raise Lagged
        if self._pending:
            frame = self._pending.pop(0)
            self._text_length -= frame.text_length
            return frame
        if self._is_notified:
            self._is_notified = False
            raise Lagged
        if self._is_closed:
            raise FeedClosedError
        return None

    def _arm(self) -> None:
        """Set the timer to the end of the reader's timeout.

        One timer serves many waits: it is set again when it fires too early, not for every frame.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._silent_at
        self._timer = self._loop.call_at(self._silent_at, self._look)

    def _look(self) -> None:
        self._timer, self._timer_at = None, inf
        if self._waiter is None:
            return
        if self._loop.time() < self._silent_at:
            self._arm()
        else:
            self._wake()

    def _wake(self) -> None:
        self._take = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _clear(self) -> None:
        self._pending.clear()
        self._text_length = 0


class MemoryChannel:
    """The live side of an attempt that runs in this process."""

    __slots__ = ("_feed", "_sequence", "is_watched", "reply", "task_id")

    def __init__(self, feed: MemoryFeed, task_id: str, *, is_watched: bool) -> None:
        self.task_id = task_id
        self.is_watched = is_watched
        self.reply: LiveReply | None = None
        self._feed = feed
        self._sequence = 0

    def publish(self, events: Sequence[TaskEvent]) -> None:
        if events:
            self._sequence = events[-1].sequence
            if self.is_watched:
                self._feed.publish(events)

    def snapshot(self) -> Frame | None:
        """As `FeedReader.snapshot`, for this attempt."""
        event = self.reply.as_event(self.task_id, self._sequence) if self.reply is not None else None
        return Frame(event) if event is not None else None

    def close(self) -> None:
        self.reply = None
        self._feed.forget(self)


class MemoryFeed:
    """Subscriptions and channels by task."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, list[MemorySubscription]] = {}
        self._channels: dict[str, list[MemoryChannel]] = {}
        self._is_closed = False

    def channel(self, task_id: str) -> MemoryChannel:
        channel = MemoryChannel(self, task_id, is_watched=task_id in self._subscriptions)
        self._channels.setdefault(task_id, []).append(channel)
        return channel

    def publish(self, events: Sequence[TaskEvent]) -> None:
        subscriptions = self._subscriptions.get(events[0].task_id) if events else None
        if subscriptions:
            for event in events:
                frame = Frame(event)
                for subscription in subscriptions:
                    subscription.offer(frame)

    def notify(self, task_id: str) -> None:
        for subscription in self._subscriptions.get(task_id, ()):
            subscription.notify()

    def watchers(self) -> int:
        """Return the number of subscriptions. May be called from another thread."""
        return sum(map(len, list(self._subscriptions.values())))

    def watched(self) -> Collection[str]:
        return self._subscriptions.keys()

    async def snapshot(self, task_id: str) -> Frame | None:
        channels = self._channels.get(task_id)
        return channels[-1].snapshot() if channels else None

    def close(self) -> None:
        self._is_closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    @contextmanager
    def subscribe(self, task_id: str) -> Iterator[MemorySubscription]:
        subscription = MemorySubscription(is_closed=self._is_closed)
        self._subscriptions.setdefault(task_id, []).append(subscription)
        self._set_watched(task_id, is_watched=True)
        try:
            yield subscription
        finally:
            subscription.end()
            watchers = self._subscriptions[task_id]
            watchers.remove(subscription)
            if not watchers:
                del self._subscriptions[task_id]
                self._set_watched(task_id, is_watched=False)

    def forget(self, channel: MemoryChannel) -> None:
        """Remove a closed channel. It no longer tracks watchers, so each later publish looks for subscriptions."""
        channels = self._channels.get(channel.task_id, [])
        if channel in channels:
            channels.remove(channel)
            channel.is_watched = True
        if not channels:
            self._channels.pop(channel.task_id, None)

    def _set_watched(self, task_id: str, *, is_watched: bool) -> None:
        for channel in self._channels.get(task_id, ()):
            channel.is_watched = is_watched

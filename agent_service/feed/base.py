"""The feed port: live events of running tasks, for watchers.

Delivery is best effort: the journal is authoritative, and a watcher that was too slow must read it again. Watchers may
be in other processes than the one that drives the task.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent_service.feed.frame import Frame
from agent_service.feed.live_reply import LiveReply
from agent_service.v1.task_event_pb2 import TaskEvent


class Lagged(Exception):
    """The feed lacks events: read the journal from the last sequence seen."""


class FeedClosedError(Exception):
    """This process stops: there are no further events."""


class Channel(Protocol):
    """The live side of one attempt, held by its driver.

    `reply` is the text of the reply that the model is writing, for watchers that join in the middle.
    """

    reply: LiveReply | None

    @property
    def is_watched(self) -> bool:
        """True if the task has a watcher, in any process. Without watchers, live text need not be published.

        Read for every piece of text. It may lag behind a new watcher in another process; text that the watcher misses
        until then is in its snapshot.
        """

    def publish(self, events: Sequence[TaskEvent]) -> None:
        """Send events to the task's watchers, in order; journaled events once they are synced. Never blocks."""

    def close(self) -> None:
        """Forget the attempt and its text. Events that it publishes later still reach the watchers."""


class FeedWriter(Protocol):
    """The publishing side, for code that changes tasks."""

    def channel(self, task_id: str) -> Channel:
        """Open the live side of an attempt of this task. The caller closes it."""

    def publish(self, events: Sequence[TaskEvent]) -> None:
        """Send events of one task that this process does not drive; as `Channel.publish`."""

    def notify(self, task_id: str) -> None:
        """Notify the watchers here that another process has written to the task's journal."""


class Subscription(Protocol):
    """The queue of one watcher. Its memory is bounded: queued text is merged, and too many events are dropped."""

    async def next(self, timeout_s: float, take: Callable[[Frame], bool] | None = None) -> Frame | None:
        """Return the next event; None if there was none for `timeout_s`.

        `take` is called with each event that is published while this waits. It returns True if it has dealt with the
        event, which is then not returned. It must not raise.

        Raises:
            Lagged: events were dropped, or `notify` reported new ones in the journal.
            FeedClosedError: all events were delivered, and the feed is closed.
        """


class FeedReader(Protocol):
    """The subscribing side, for watchers."""

    def subscribe(self, task_id: str) -> AbstractContextManager[Subscription]:
        """Watch from now on, until the context ends."""

    async def snapshot(self, task_id: str) -> Frame | None:
        """Return the text so far of the reply that the task's model is writing, from offset 0, of any length.

        None if there is none, or if it is not available. Call it after `subscribe`: text may then arrive twice, which
        its offset shows.
        """

    def watched(self) -> Collection[str]:
        """Return the tasks that are watched in this process, as a live view."""


class Feed(FeedWriter, FeedReader, Protocol):
    """Carries events from the process that drives a task to its watchers."""

    def close(self) -> None:
        """End all subscriptions once their queued events are read. Later subscriptions end at once."""

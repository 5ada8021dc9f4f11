"""The feed port: live events of running tasks, to whoever watches.

Best effort: the journal is the truth, and a watcher that was too slow has to read it again. The process that drives a
task and those that watch it need not be the same: nothing here promises that a watcher is in this one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent_service.feed.frame import Frame
from agent_service.feed.live_reply import LiveReply
from agent_service.v1.task_event_pb2 import TaskEvent


class Lagged(Exception):
    """There are events that do not come by the feed: read the journal from the last sequence seen."""


class FeedClosedError(Exception):
    """This process stops: nothing comes any more."""


class Channel(Protocol):
    """The live side of one attempt, held by what drives it.

    `reply` is the text of the reply that the model writes now, for those who begin to watch in the middle of it.
    """

    reply: LiveReply | None

    @property
    def is_watched(self) -> bool:
        """Return whether anybody watches the task, in any process: while nobody does, live text need not be published.

        Asked for every piece of text. It may be late by the time that interest takes to get here; what a watcher misses
        until then is in its snapshot.
        """

    def publish(self, events: Sequence[TaskEvent]) -> None:
        """Send events to the task's watchers, in order; journaled events once they are synced. Never blocks."""

    def close(self) -> None:
        """Forget the attempt and its text. What it publishes later still reaches the watchers."""


class FeedWriter(Protocol):
    """What those use who change tasks."""

    def channel(self, task_id: str) -> Channel:
        """Open the live side of an attempt of this task, until it is closed."""

    def publish(self, events: Sequence[TaskEvent]) -> None:
        """Send events of one task that nothing drives here; as `Channel.publish`."""

    def notify(self, task_id: str) -> None:
        """Notify the watchers here that another process has written to the task's journal."""


class Subscription(Protocol):
    """One watcher's place. Memory is bounded: text that waits is merged, too many events are dropped."""

    async def next(self, timeout_s: float) -> Frame | None:
        """The next event; None when there was none for `timeout_s`.

        Raises:
            Lagged: events were dropped, or `notify` said that there are more.
            FeedClosedError: everything was delivered, and the feed is closed.
        """


class FeedReader(Protocol):
    """What those use who watch tasks."""

    def subscribe(self, task_id: str) -> AbstractContextManager[Subscription]:
        """Watch from now on, until the context ends."""

    async def snapshot(self, task_id: str) -> Frame | None:
        """The text so far of the reply that the task's model writes now, from offset 0 and however long.

        None if there is none, or it cannot be had. Ask behind `subscribe`: text may come by both, and its offset shows
        it.
        """

    def watched(self) -> Collection[str]:
        """The tasks that are watched in this process, as a view."""


class Feed(FeedWriter, FeedReader, Protocol):
    """Carries events from the process that drives a task to those who watch it."""

    def close(self) -> None:
        """Let everybody read what waits, and then go. Who subscribes later goes at once."""

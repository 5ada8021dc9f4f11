"""The feed port: live events of running tasks, to whoever watches.

Best effort: the journal is the truth, and a watcher that was too slow is told to read it again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent_service.v1.task_event_pb2 import TaskEvent


class Lagged(Exception):
    """There are events that do not come by the feed: read the journal from the last sequence seen."""


class FeedClosedError(Exception):
    """This process stops: nothing comes any more."""


class Subscription(Protocol):
    """One watcher's place. Memory is bounded: text pieces that wait are merged, too many events are dropped."""

    async def next(self, timeout_s: float) -> TaskEvent | None:
        """The next event; None when there was none for `timeout_s`.

        Events are shared between watchers: never change one.

        Raises:
            Lagged: events were dropped, or `nudge` said that there are more.
            FeedClosedError: everything was delivered, and the feed is closed.
        """


class Feed(Protocol):
    """Carries events from the process that drives a task to those who watch it."""

    def publish(self, events: Sequence[TaskEvent]) -> None:
        """Tell the watchers of these events' task, in order; journaled events once they are synced. Never blocks."""

    def nudge(self, task_id: str) -> None:
        """Tell the watchers that another process has written to the task's journal."""

    def watched(self) -> Collection[str]:
        """The tasks that somebody watches, as a view: making live text for others is not worth the work."""

    def subscribe(self, task_id: str) -> AbstractContextManager[Subscription]:
        """Watch from now on, until the context ends."""

    def close(self) -> None:
        """Let everybody read what waits, and then go. Who subscribes later goes at once."""

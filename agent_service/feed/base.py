"""The feed port: live events of running tasks, to whoever watches.

Best effort: the journal is the truth, and a watcher that was too slow is told to read it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent_service.v1.task_event_pb2 import TaskEvent


class Lagged(Exception):
    """The watcher was too slow and events were dropped: read the journal from the last sequence it saw."""


class Subscription(Protocol):
    """One watcher's place. Memory is bounded: text pieces that wait are merged, too many events are dropped."""

    async def next(self, timeout_s: float) -> TaskEvent | None:
        """The next event; None when there was none for `timeout_s`.

        Events are shared between watchers: never change one.

        Raises:
            Lagged: events were dropped.
        """


class Feed(Protocol):
    """Carries events from the process that drives a task to those who watch it."""

    def publish(self, events: Sequence[TaskEvent]) -> None:
        """Tell the watchers of these events' task, in order; journaled events once they are synced. Never blocks."""

    def is_watched(self, task_id: str) -> bool:
        """Whether making live text for this task is worth the work."""

    def subscribe(self, task_id: str) -> AbstractContextManager[Subscription]:
        """Watch from now on, until the context ends."""

"""The tasks that wait in this process to be started: in the queue, or in quarantine."""

from __future__ import annotations

from collections import deque
from collections.abc import Set

from agent_service.engine.dispatch.base import LineCounts, Place
from agent_service.engine.dispatch.fair_queue import FairQueue, Runnable
from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.v1.task_pb2 import WAIT_CAUSE_SESSION, WAIT_CAUSE_SLOT, WAIT_CAUSE_STORE

# New tasks that are remembered between two calls of `take_new`.
NEW_MAX = 1000


class Line:
    """The queue and the quarantine of this process, and the view of both. Only the dispatcher changes them."""

    def __init__(self, *, queued_max: int) -> None:
        self.queue = FairQueue(queued_max=queued_max)
        self.quarantine = Quarantine()
        self.is_paused = False
        self._new: deque[str] = deque(maxlen=NEW_MAX)

    def note_new(self, task_id: str) -> None:
        """Record a task that was queued and could not be claimed at once."""
        self._new.append(task_id)

    @property
    def task_ids(self) -> Set[str]:
        """See `LineView`, also for the methods below."""
        return self.queue.task_ids

    @property
    def counts(self) -> LineCounts:
        return LineCounts(len(self.queue), self.queue.behind_session, self.is_paused)

    def find(self, task_id: str) -> Place | None:
        quarantined = self.quarantine.get(task_id)
        if quarantined is not None:
            return Place(quarantined.attempt, WAIT_CAUSE_SLOT, is_quarantined=True)
        queued = self.queue.get(task_id)
        if queued is None:
            return None
        if self.is_paused:
            return Place(queued.attempt, WAIT_CAUSE_STORE)
        is_behind = self.queue.is_behind_session(task_id)
        return Place(queued.attempt, WAIT_CAUSE_SESSION if is_behind else WAIT_CAUSE_SLOT)

    def resumed(self) -> list[Runnable]:
        return [*self.queue.resumed(), *self.quarantine.waiting()]

    def take_new(self) -> frozenset[str]:
        new = frozenset(self._new)
        self._new.clear()
        return new

"""The tasks that wait in this process for their turn: in the queue, or in quarantine."""

from __future__ import annotations

from collections import deque
from collections.abc import Set

from agent_service.engine.dispatch.base import LineCounts, Place
from agent_service.engine.dispatch.fair_queue import FairQueue, Runnable
from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.v1.task_pb2 import WAIT_CAUSE_SESSION, WAIT_CAUSE_SLOT, WAIT_CAUSE_STORE

# Newcomers to the line that are remembered between two calls of `take_new`.
NEW_MAX = 1000


class Line:
    """The queue and the quarantine of this process, and the view of both. The dispatcher alone changes them."""

    def __init__(self, *, queued_max: int) -> None:
        self.queue = FairQueue(queued_max=queued_max)
        self.quarantine = Quarantine()
        self.is_paused = False
        self._new: deque[str] = deque(maxlen=NEW_MAX)

    def stays(self, task_id: str) -> None:
        """A task was put in line and could not be claimed at once."""
        self._new.append(task_id)

    @property
    def task_ids(self) -> Set[str]:
        """See `LineView`, as of all that follow."""
        return self.queue.task_ids

    @property
    def counts(self) -> LineCounts:
        return LineCounts(len(self.queue), self.queue.behind_session, self.is_paused)

    def find(self, task_id: str) -> Place | None:
        aside = self.quarantine.get(task_id)
        if aside is not None:
            return Place(aside.attempt, WAIT_CAUSE_SLOT, is_quarantined=True)
        queued = self.queue.get(task_id)
        if queued is None:
            return None
        if self.is_paused:
            return Place(queued.attempt, WAIT_CAUSE_STORE)
        is_behind = self.queue.is_behind_session(task_id)
        return Place(queued.attempt, WAIT_CAUSE_SESSION if is_behind else WAIT_CAUSE_SLOT)

    def resumed(self) -> list[Runnable]:
        return [*self.queue.resumed(), *self.quarantine.aside()]

    def take_new(self) -> frozenset[str]:
        new = frozenset(self._new)
        self._new.clear()
        return new

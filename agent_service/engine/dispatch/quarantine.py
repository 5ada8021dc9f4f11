"""Quarantine for tasks whose last attempts died with their process: one runs at a time, to identify the culprit."""

from __future__ import annotations

from agent_service.engine.dispatch.fair_queue import Runnable
from agent_service.engine.task.state import FoldedTask

# After this many attempts in a row that were lost without progress, a task is suspected.
SUSPICIOUS_LOSSES = 2


class Quarantine:
    """Admits one suspected task at a time. The others wait in order."""

    def __init__(self) -> None:
        self._admitted = ""
        self._waiting: dict[str, Runnable] = {}

    def __contains__(self, task_id: str) -> bool:
        """Return whether a task waits in quarantine."""
        return task_id in self._waiting

    def get(self, task_id: str) -> Runnable | None:
        """Return a task that waits in quarantine; None if it does not."""
        return self._waiting.get(task_id)

    def admits(self, task_id: str, folded: FoldedTask) -> bool:
        """Return whether the task may start: it is not suspected, or no other suspected task is running."""
        if folded.losses_if_lost < SUSPICIOUS_LOSSES or self._admitted == task_id:
            return True
        if self._admitted:
            return False
        self._admitted = task_id
        return True

    def add(self, runnable: Runnable) -> None:
        """Keep a task that was not admitted, until `done` returns it."""
        self._waiting[runnable.task_id] = runnable

    def waiting(self) -> list[Runnable]:
        """Return the tasks that wait in quarantine."""
        return list(self._waiting.values())

    def done(self, task_id: str) -> Runnable | None:
        """Record that a task, suspected or not, no longer runs here. Return the next suspected task to start, if none
        is running.
        """
        if task_id == self._admitted:
            self._admitted = ""
        if self._admitted or not self._waiting:
            return None
        return self._waiting.pop(next(iter(self._waiting)))

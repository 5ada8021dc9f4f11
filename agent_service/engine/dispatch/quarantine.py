"""Quarantine for tasks whose last attempts died with their process: one runs at a time, to identify the culprit."""

from __future__ import annotations

from agent_service.engine.dispatch.fair_queue import Runnable
from agent_service.engine.task.state import FoldedTask

# So many attempts in a row, lost without a step forward, and a task is suspected.
SUSPICIOUS_LOSSES = 2


class Quarantine:
    """Admits one suspected task at a time. The others are kept aside, in order."""

    def __init__(self) -> None:
        self._admitted = ""
        self._aside: dict[str, Runnable] = {}

    def __contains__(self, task_id: str) -> bool:
        """Whether a task is kept aside."""
        return task_id in self._aside

    def get(self, task_id: str) -> Runnable | None:
        """One that is kept aside."""
        return self._aside.get(task_id)

    def admits(self, task_id: str, folded: FoldedTask) -> bool:
        """Whether the task may begin: it is not suspected, or no other suspected task has begun and not been `done`."""
        if folded.losses_if_lost < SUSPICIOUS_LOSSES or self._admitted == task_id:
            return True
        if self._admitted:
            return False
        self._admitted = task_id
        return True

    def keep_aside(self, runnable: Runnable) -> None:
        """Keep a task that was not admitted until `done` returns it."""
        self._aside[runnable.task_id] = runnable

    def aside(self) -> list[Runnable]:
        """Those that are kept aside."""
        return list(self._aside.values())

    def done(self, task_id: str) -> Runnable | None:
        """The task does not run here any more, suspected or not. Return the one to try next, if none is admitted."""
        if task_id == self._admitted:
            self._admitted = ""
        if self._admitted or not self._aside:
            return None
        return self._aside.pop(next(iter(self._aside)))

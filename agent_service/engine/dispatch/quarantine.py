"""Tasks that may be what kills the process: begun one at a time, so that the next death says which of them it was."""

from __future__ import annotations

from agent_service.engine.dispatch.fair_queue import Runnable
from agent_service.engine.task.state import FoldedTask

# So many attempts in a row, lost without a step forward, and a task is suspected.
SUSPICIOUS_LOSSES = 2


class Quarantine:
    """Lets one suspected task be driven and keeps the others aside, in order."""

    def __init__(self) -> None:
        self._driven = ""
        self._aside: dict[str, Runnable] = {}

    def __contains__(self, task_id: str) -> bool:
        """Whether a task is kept aside."""
        return task_id in self._aside

    def get(self, task_id: str) -> Runnable | None:
        """One that is kept aside."""
        return self._aside.get(task_id)

    def may_begin(self, runnable: Runnable, folded: FoldedTask) -> bool:
        """Whether the task is not suspected, or is alone in that; else it is kept aside until `done` gives it back."""
        if folded.losses_if_lost < SUSPICIOUS_LOSSES or self._driven == runnable.task_id:
            return True
        if self._driven:
            self._aside[runnable.task_id] = runnable
            return False
        self._driven = runnable.task_id
        return True

    def aside(self) -> list[Runnable]:
        """Those that are kept aside."""
        return list(self._aside.values())

    def done(self, task_id: str) -> Runnable | None:
        """Nobody drives the task here any more, suspected or not; the one that may be tried next, if none is driven."""
        if task_id == self._driven:
            self._driven = ""
        if self._driven or not self._aside:
            return None
        return self._aside.pop(next(iter(self._aside)))

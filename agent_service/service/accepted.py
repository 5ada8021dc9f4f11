"""A task on its way in: prepared, then accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.limits.base import LimitStatus
from agent_service.v1.task_event_pb2 import TaskSubmitted


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task that may be accepted, under the id that it will have if it is new.

    `submitted` has what tells whether it is. `complete` fills in the rest for one that is, and raises what speaks
    against it as things are configured now: that is no matter to a repetition.
    """

    task_id: str
    submitted: TaskSubmitted
    complete: Callable[[], AgentRuntime]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that is stored: a new one, or the one that its request_id names.

    `running` is None where this process does not drive it: it waits for its turn, runs elsewhere, or is over. `folded`
    is then as it was found. `limit` is how the tightest of the rules stands that name its agent or model.
    """

    task_id: str
    submitted: TaskSubmitted
    running: RunningTask | None
    folded: FoldedTask
    limit: LimitStatus | None = None

    @property
    def is_settled(self) -> bool:
        """Return whether the task is known to have ended, or to wait for input."""
        if self.running is not None:
            return self.running.is_settled
        return self.folded.is_terminal or self.folded.is_waiting

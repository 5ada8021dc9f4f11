"""A task before it is driven: prepared, then accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.limits.base import LimitStatus
from agent_service.v1.task_event_pb2 import TaskSubmitted


class NewTask(NamedTuple):
    """A new task with all its fields, and its runtime."""

    submitted: TaskSubmitted
    runtime: AgentRuntime


class Prepared(NamedTuple):
    """A task that may be accepted, with the id that it gets if it is new.

    `request` has the fields that identify a repetition. `complete` returns the whole new task, and raises if the
    current configuration does not admit it. A repetition does not call it.
    """

    task_id: str
    request: TaskSubmitted
    complete: Callable[[], NewTask]


class Accepted(NamedTuple):
    """A stored task: a new one, or the one that its request_id names.

    `running` is None if this process does not drive it: it is queued, runs elsewhere, or has ended. `folded` is then
    the task as it was read. `limit` is the state of the tightest rule that names its agent or model.
    """

    task_id: str
    submitted: TaskSubmitted
    running: RunningTask | None
    folded: FoldedTask
    limit: LimitStatus | None = None

    @property
    def is_settled(self) -> bool:
        """True if the task is known to have ended, or to wait for input."""
        if self.running is not None:
            return self.running.is_settled
        return self.folded.is_terminal or self.folded.is_waiting

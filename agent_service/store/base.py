"""The store port: where journals are kept.

A journal is the sequence of a task's events. The store gives sequences and refuses what would break a journal; what
events mean is the fold's business (`engine/task_state.py`), save for the one table that the refusals need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TaskState

# The state that an event leads to; events that are not here leave it as it is.
STATE_AFTER: Mapping[str, TaskState.ValueType] = MappingProxyType(
    {
        "submitted": TaskState.TASK_STATE_SUBMITTED,
        "attempt_started": TaskState.TASK_STATE_WORKING,
        "completed": TaskState.TASK_STATE_COMPLETED,
        "failed": TaskState.TASK_STATE_FAILED,
        "canceled": TaskState.TASK_STATE_CANCELED,
        "rejected": TaskState.TASK_STATE_REJECTED,
    }
)

TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)


class AppendRefusedError(Exception):
    """The journal moved on without us: another attempt owns the task, it is terminal, unknown, or exists already."""


class Store(Protocol):
    """Journals, durable. All methods may be called from one event loop only.

    Every method raises OverloadedError (STORE_UNAVAILABLE) when the medium is full, read-only or unreachable; what was
    not acknowledged then is not stored, and the store works again by itself once the medium does.
    """

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None) -> None:
        """Append events of one task, all or none, and return once they are synced.

        Sets `sequence` of each event in place, rising by one from the last in the journal; `create_time`, `attempt` and
        `task_id` are the caller's. A journal begins with an append whose first event is `submitted`; its `attempt` is 0.
        `attempt` is the one that the caller owns, which must be the journal's newest; None appends whatever it is. The
        newest attempt of a journal is the highest `TaskEvent.attempt` in it, so appending `attempt_started` for attempt
        N+1 with `attempt=N` takes a task over, once. Appends of one caller are stored in the order of the calls, even
        when it does not wait for the earlier ones.

        Raises:
            AppendRefusedError: `attempt` is not the newest; the task is terminal; it does not exist, or does already.
                Refuses this append alone, never others that share its commit.
        """

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """The events above `after_sequence`, in order, at most `limit`; empty if there are none or no such task."""

    async def unfinished(self, *, after_task_id: str = "", limit: int = 1000) -> list[str]:
        """Ids of tasks that are not terminal, sorted, above `after_task_id`, at most `limit`."""

    async def check(self) -> None:
        """Return if a small write can be made durable now."""

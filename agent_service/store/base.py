"""The store port: where journals are kept.

A journal is the sequence of a task's events. The store gives sequences and refuses what would break a journal; what
events mean is the fold's business (`engine/task_state.py`), save for the one table that the refusals need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
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

    Every method raises OverloadedError (STORE_UNAVAILABLE) when the medium is full, read-only or unreachable, or the
    store is closed. An append that raises it is not stored, may be tried again with the same events, and does not hold
    back later ones; only if the process dies before the medium works again may it be found stored after all. The store
    works again by itself once the medium does.
    """

    def append(self, events: Sequence[TaskEvent], *, attempt: int | None) -> Awaitable[None]:
        """Append events of one task, all or none; the awaitable is done once they are synced.

        The call itself, not the awaiting, puts the append in line: appends are stored in the order of the calls, also
        when nobody waits for the earlier ones. To stop waiting does not take an append back. What is returned is a
        future rather than a coroutine: for `asyncio.gather` and `ensure_future`, not for `create_task`.

        Sets `sequence` of each event in place, rising by one from the last in the journal; `create_time`, `attempt` and
        `task_id` are the caller's. What is stored are the events as they are at the call. A journal begins with an
        append whose first event is `submitted`; its newest attempt before that is 0. `attempt` is the one that the
        caller owns, which must be the journal's newest; None appends whatever it is. The newest attempt of a journal is
        the highest `TaskEvent.attempt` in it, so appending `attempt_started` for attempt N+1 with `attempt=N` takes a
        task over, once.

        Raises (from the awaitable, never from the call):
            AppendRefusedError: `attempt` is not the newest; the task is terminal; it does not exist, or does already.
                Refuses this append alone, never others that share its commit.
            ValueError: no events or those of several tasks, an event that is not journaled, `submitted` that is not the
                first, an event after the terminal one: faults of the calling code.
        """

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """The events above `after_sequence`, in order, at most `limit`; empty if there are none or no such task.

        Whatever was acknowledged before the call is there.
        """

    async def unfinished(self, *, after_task_id: str = "", limit: int = 1000) -> list[str]:
        """Ids of tasks that are not terminal, sorted, above `after_task_id`, at most `limit`."""

    async def check(self) -> None:
        """Return if a small write can be made durable now."""

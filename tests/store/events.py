"""Events as the engine writes them, one line each."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.store.base import Workers
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TaskKind

AT = Timestamp(seconds=1_700_000_000, nanos=123_456_789)


def event(arm: str, task_id: str = "t", *, attempt: int = 0, text: str = "") -> TaskEvent:
    """One event; `text` goes where the arm has room for some."""
    made = TaskEvent(task_id=task_id, attempt=attempt, create_time=AT)
    getattr(made, arm).SetInParent()
    if arm == "submitted":
        made.submitted.tenant = "acme"
        made.submitted.kind = TaskKind.TASK_KIND_AGENT
        made.submitted.agent = "assistant"
        made.submitted.task = text
    elif arm == "model_replied":
        made.model_replied.text = text
    return made


def submitted(
    task_id: str = "t",
    *,
    tenant: str = "acme",
    agent: str = "assistant",
    session: str = "",
    waiting_max: int = 0,
    request: str = "",
    labels: Mapping[str, str] | None = None,
    key: str = "",
    at_s: float = 0.0,
    deadline_s: float = 0.0,
) -> TaskEvent:
    """A task of its own; times in seconds after AT."""
    made = event("submitted", task_id)
    told = made.submitted
    told.tenant, told.agent, told.session_id, told.request_id = tenant, agent, session, request
    told.session_waiting_max, told.submitted_by = waiting_max, key
    told.labels.update(labels or {})
    made.create_time.FromMicroseconds(AT.ToMicroseconds() + int(at_s * 1e6))
    if deadline_s:
        told.deadline.FromMicroseconds(AT.ToMicroseconds() + int(deadline_s * 1e6))
    return made


def started(task_id: str = "t", *, attempt: int = 1, worker: str = "") -> TaskEvent:
    """A worker's attempt begins."""
    made = event("attempt_started", task_id, attempt=attempt)
    made.attempt_started.worker = worker
    return made


def waits(task_id: str = "t", *, until_s: float, attempt: int = 1) -> TaskEvent:
    """The task begins to wait for one input."""
    made = event("input_required", task_id, attempt=attempt)
    asked = made.input_required.inputs.add(input_id="input_1")
    asked.expire_time.FromMicroseconds(AT.ToMicroseconds() + int(until_s * 1e6))
    return made


def beginning(task_id: str = "t") -> list[TaskEvent]:
    """The first append of most tasks: attempt 1 owns the task after it."""
    return [event("submitted", task_id), event("attempt_started", task_id, attempt=1)]


def ending(task_id: str = "t") -> list[TaskEvent]:
    """The last append of most tasks."""
    return [event("model_replied", task_id, attempt=1, text="sunny"), event("completed", task_id, attempt=1)]


async def unfinished(store: Workers) -> list[str]:
    """The tasks that a process finds which comes to a store where nobody lives, sorted."""
    found = [orphan for begun in (True, False) for orphan in await store.orphans("a newcomer", begun=begun)]
    return sorted(orphan.task_id for orphan in found)

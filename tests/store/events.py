"""Events as the engine writes them, one line each."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

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


def beginning(task_id: str = "t") -> list[TaskEvent]:
    """The first append of most tasks: attempt 1 owns the task after it."""
    return [event("submitted", task_id), event("attempt_started", task_id, attempt=1)]


def ending(task_id: str = "t") -> list[TaskEvent]:
    """The last append of most tasks."""
    return [event("model_replied", task_id, attempt=1, text="sunny"), event("completed", task_id, attempt=1)]

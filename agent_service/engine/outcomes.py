"""Ends of tasks and attempts: their events, and how the end of a task is logged and counted."""

from __future__ import annotations

from agent_service.engine.task.state import FoldedTask
from agent_service.errors import reason_name
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import current_span
from agent_service.text.enum_names import short_name
from agent_service.v1.task_event_pb2 import (
    ATTEMPT_END_CAUSE_DRAIN,
    AttemptEnded,
    TaskCanceled,
    TaskEvent,
    TaskFailed,
    TaskRejected,
)
from agent_service.v1.task_pb2 import CancelCause, Failure, TaskKind, TaskState


def failed(failure: Failure) -> TaskEvent:
    """Return the event of a task that failed."""
    return TaskEvent(failed=TaskFailed(failure=failure))


def rejected(failure: Failure) -> TaskEvent:
    """Return the event of a task that was refused before its first attempt."""
    return TaskEvent(rejected=TaskRejected(failure=failure))


def canceled(cause: CancelCause.ValueType) -> TaskEvent:
    """Return the event of a task that was canceled."""
    return TaskEvent(canceled=TaskCanceled(cause=cause))


def released() -> TaskEvent:
    """Return the event of an attempt that ended before its task, because the process no longer drives it."""
    return TaskEvent(attempt_ended=AttemptEnded(cause=ATTEMPT_END_CAUSE_DRAIN))


def with_usage(end: TaskEvent, folded: FoldedTask) -> TaskEvent:
    """Return the event with the usage of the whole task, if its kind has that field."""
    match end.WhichOneof("event"):
        case "completed":
            end.completed.usage.CopyFrom(folded.task.usage)
        case "failed":
            end.failed.usage.CopyFrom(folded.task.usage)
        case "canceled":
            end.canceled.usage.CopyFrom(folded.task.usage)
    return end


def report_end(log: EventLog, metrics: Metrics, folded: FoldedTask) -> None:
    """Log the end of a task, and count it in the metrics."""
    task = folded.task
    kind = short_name(TaskKind, task.kind)
    state = short_name(TaskState, task.state)
    reason = reason_name(task.failure.reason) if task.failure.reason else ""
    tenant = folded.submitted.tenant
    began, ended, usage = task.create_time, task.update_time, task.usage
    took_s = ended.seconds - began.seconds + (ended.nanos - began.nanos) / 1e9
    cause = short_name(CancelCause, task.cancel_cause) if task.cancel_cause else ""
    metrics.tasks_ended(kind, state, reason or cause).inc()
    metrics.task_seconds(task.agent, state).observe(took_s, current_span().exemplar)
    metrics.tenant_task_ended(tenant, state)
    log.info(
        "task",
        task_id=task.id,
        idempotency_key=folded.submitted.request_id or None,
        tenant=tenant,
        agent=task.agent,
        state=state,
        reason=reason,
        turns=folded.turns,
        tool_calls=usage.tool_calls,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        duration_ms=round(took_s * 1000, 1),
    )

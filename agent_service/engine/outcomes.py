"""Ends of tasks and attempts: their events, how a task is ended that this process does not drive, and the log entry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agent_service.engine.journal_reading import read_folded
from agent_service.engine.journal_writer import IdleWriter
from agent_service.engine.runtime import Ports
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import reason_name
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import current_span
from agent_service.text.enum_names import short_name
from agent_service.v1.task_event_pb2 import (
    ATTEMPT_END_CAUSE_DRAIN,
    AttemptEnded,
    CancelRequested,
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


async def append_idle(ports: Ports, folded: FoldedTask, *events: TaskEvent) -> bool:
    """Append to a task that this process does not drive, and fold the events. Return False if the task has changed
    since it was folded.

    Raises:
        OverloadedError: STORE_UNAVAILABLE.
    """
    # In its own asyncio task: a cancelled caller does not withdraw the append, and an end is reported in any case.
    return await asyncio.shield(asyncio.create_task(_append_idle(ports, folded, events)))


async def _append_idle(ports: Ports, folded: FoldedTask, events: Sequence[TaskEvent]) -> bool:
    if not await IdleWriter(ports.journal, ports.feed, ports.clock).append(folded, events):
        return False
    if folded.is_terminal:
        report_end(ports.log, ports.metrics, folded)
    return True


async def cancel_idle(
    ports: Ports,
    task_id: str,
    cause: CancelCause.ValueType,
    requested_by: str = "",
    *,
    only_if: Callable[[FoldedTask], bool] = lambda _: True,
) -> FoldedTask:
    """Cancel a task that this process does not drive: immediately if no process does, else by a request in its journal.
    Return the task afterwards. A task that has ended, or for which `only_if` is false, stays unchanged. If there is an
    earlier request, its cause is kept.

    Raises:
        OverloadedError: STORE_UNAVAILABLE.
    """
    while True:
        folded = await read_folded(ports.journal, task_id)
        if folded.is_terminal or not folded.task.state or not only_if(folded):
            return folded
        events, requested = [], folded.cancel_requested
        if requested is None:
            requested = CancelRequested(cause=cause, requested_by=requested_by)
            events.append(TaskEvent(cancel_requested=requested))
        if not folded.attempt_is_open:
            events.append(with_usage(canceled(requested.cause), folded))
        if not events or await append_idle(ports, folded, *events):
            return folded


def report_end(log: EventLog, metrics: Metrics, folded: FoldedTask) -> None:
    """Log the end of a task, and count it in the metrics."""
    task = folded.task
    kind = short_name(TaskKind, task.kind)
    state = short_name(TaskState, task.state)
    reason = reason_name(task.failure.reason) if task.failure.reason else ""
    tenant = folded.submitted.tenant
    took_ns = task.update_time.ToNanoseconds() - task.create_time.ToNanoseconds()
    cause = short_name(CancelCause, task.cancel_cause) if task.cancel_cause else ""
    metrics.tasks_ended(kind, state, reason or cause).inc()
    metrics.task_seconds(task.agent, state).observe(took_ns / 1e9, current_span().exemplar)
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
        tool_calls=task.usage.tool_calls,
        input_tokens=task.usage.input_tokens,
        output_tokens=task.usage.output_tokens,
        duration_ms=round(took_ns / 1e6, 1),
    )

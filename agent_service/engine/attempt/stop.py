"""Ends a running attempt early: it is canceled, released, or out of time."""

from __future__ import annotations

import asyncio

from agent_service.engine.outcomes import canceled, failed, released
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import TaskLimitError
from agent_service.v1.error_reason_pb2 import ERROR_REASON_DEADLINE_EXCEEDED
from agent_service.v1.task_event_pb2 import CancelRequested, TaskEvent
from agent_service.v1.task_pb2 import CancelCause


class Stop:
    """Interrupts an attempt once: the first reason is kept. After the deadline a further reason interrupts it again, in
    case it hangs while it cleans up.

    `event` is the last event of the stopped attempt; None while it may continue. `requested` is the cancellation that
    it writes before that, if the journal does not have it. `working` is the asyncio task to cancel; None while the
    attempt has not begun or no longer works, in which case it reads `event`. `interrupts` counts its cancellations.
    """

    def __init__(self, folded: FoldedTask) -> None:
        self.event: TaskEvent | None = None
        self.requested: CancelRequested | None = None
        self.working: asyncio.Task[None] | None = None
        self.interrupts = 0
        self._folded = folded
        self._is_late = False

    @property
    def is_release(self) -> bool:
        """True if another attempt continues the task."""
        return self.event is not None and self.event.HasField("attempt_ended")

    def cancel(self, cause: CancelCause.ValueType, requested_by: str = "") -> None:
        """Cancel the task. `requested_by` is the id of the key, if there was one."""
        if self.event is None:
            self.requested = CancelRequested(cause=cause, requested_by=requested_by)
        self._stop_with(canceled(cause))

    def cancel_as_requested(self, requested: CancelRequested) -> None:
        """Cancel the task: another process has written this request to the journal."""
        self._folded.cancel_requested = requested
        self._stop_with(canceled(requested.cause))

    def release(self) -> None:
        """Stop driving the task without ending it: another attempt continues it, here or elsewhere."""
        self._stop_with(released())

    def time_out(self) -> None:
        """Fail the task: its deadline has passed."""
        if self.event is None:
            limit = TaskLimitError(ERROR_REASON_DEADLINE_EXCEEDED, "the task's deadline passed")
            self._stop_with(failed(limit.as_failure()))
            self._is_late = True

    def _stop_with(self, event: TaskEvent) -> None:
        if self.event is None:
            self.event = event
        elif not self._is_late:
            return
        self._is_late = False
        # Cancelling before the coroutine starts would end it without writing an event.
        if self.working is not None:
            self.working.cancel()
            self.interrupts += 1

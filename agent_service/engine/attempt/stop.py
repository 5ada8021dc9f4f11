"""The request that a running attempt stops before it ends by itself."""

from __future__ import annotations

import asyncio

from agent_service.engine.outcomes import canceled, released
from agent_service.engine.task.state import FoldedTask
from agent_service.v1.task_event_pb2 import CancelRequested, TaskEvent
from agent_service.v1.task_pb2 import CancelCause


class Stop:
    """Interrupts an attempt, once: the first reason stands.

    `event` is what the attempt writes last then; None while it may go on. `requested` is the cancellation that it
    writes before, where it is not in the journal. `working` is the asyncio task to cancel; None while the attempt has
    not begun or no longer works: it reads `event` then.
    """

    def __init__(self, folded: FoldedTask) -> None:
        self.event: TaskEvent | None = None
        self.requested = CancelRequested()
        self.working: asyncio.Task[None] | None = None
        self._folded = folded

    @property
    def is_release(self) -> bool:
        """Whether another attempt goes on with the task."""
        return self.event is not None and self.event.HasField("attempt_ended")

    def cancel(self, cause: CancelCause.ValueType, requested_by: str = "") -> None:
        """Stop the task for good. `requested_by` is the id of the key, if there was one."""
        if self.event is None:
            self.requested = CancelRequested(cause=cause, requested_by=requested_by)
            self._stop_with(canceled(cause))

    def cancel_as_requested(self, requested: CancelRequested) -> None:
        """Stop the task for good: another process has written this request into the journal."""
        self._folded.cancel_requested = requested
        self._stop_with(canceled(requested.cause))

    def release(self) -> None:
        """Stop driving the task without ending it: another attempt goes on, here or elsewhere."""
        self._stop_with(released())

    def _stop_with(self, event: TaskEvent) -> None:
        if self.event is None:
            self.event = event
            # Cancelling before the coroutine starts would end it without writing an event.
            if self.working is not None:
                self.working.cancel()

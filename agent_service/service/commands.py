"""Commands on existing tasks: cancel, answer, erase."""

from __future__ import annotations

import asyncio

from agent_service.engine.dispatch.base import Dispatcher
from agent_service.engine.idle_tasks import IdleTasks
from agent_service.engine.task.inputs import ANSWERS, received
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import FieldViolation, NotFoundError, PermissionDeniedError, StateError, ValidationError
from agent_service.journal.event_rules import TERMINAL
from agent_service.journal.refusals import SessionBusyError
from agent_service.keys.base import Principal, Scope
from agent_service.service.keyed_lock import KeyedLock
from agent_service.service.reading import TaskReader
from agent_service.service.watching.watcher import TaskWatcher
from agent_service.store.base import Retention
from agent_service.text.enum_names import short_name
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import CancelCause, InputAnswer, InputKind, PendingInput, Task, TaskState

# How long CancelTask waits for the end of the task.
CANCEL_WAIT_S = 2.0


class TaskCommands:
    """Acts on accepted tasks, in whichever process they run."""

    def __init__(
        self,
        reader: TaskReader,
        watcher: TaskWatcher,
        dispatcher: Dispatcher,
        idle: IdleTasks,
        retention: Retention,
    ) -> None:
        self._reader = reader
        self._watcher = watcher
        self._dispatcher = dispatcher
        self._idle = idle
        self._retention = retention
        # Each erasure is a commit of its own: other writes wait for at most one erasure of each tenant.
        self._erasures = KeyedLock(rest=4.0)

    async def cancel(self, principal: Principal, task_id: str) -> Task:
        """Cancel a task. Return it once it has ended, or after CANCEL_WAIT_S.

        Raises:
            NotFoundError: TASK_NOT_FOUND. OverloadedError: STORE_UNAVAILABLE.
        """
        row = await self._reader.find(principal, task_id)
        if row.state in TERMINAL:
            return await self._reader.get(principal, task_id)
        is_operator = Scope.ADMIN in principal.scopes
        cause = CancelCause.CANCEL_CAUSE_OPERATOR if is_operator else CancelCause.CANCEL_CAUSE_USER
        try:
            async with asyncio.timeout(CANCEL_WAIT_S):
                await self._dispatcher.cancel(task_id, cause, principal.key_id)
                await self._watcher.settled(task_id)
        except TimeoutError:
            pass  # best effort: the task ends when the process that drives it reads the request
        return await self._reader.get(principal, task_id)

    async def resume(self, principal: Principal, task_id: str, input_id: str, answer: InputAnswer) -> Task:
        """Answer a pending input of a task.

        Raises:
            NotFoundError: TASK_NOT_FOUND. StateError: STALE_ANSWER, TASK_TERMINAL. PermissionDeniedError:
            SUBMITTER_MAY_NOT_ANSWER. ValidationError: this kind of input does not accept the answer. OverloadedError:
            STORE_UNAVAILABLE.
        """
        while True:
            folded = await self._reader.visible(principal, task_id)
            given = folded.answers.get(input_id)
            if given is not None and given.answer == answer:
                return folded.task
            _check(principal, folded, input_id, answer)
            event = received(folded, input_id, answer, principal.key_id)
            if await self._idle.append(folded, event):
                break
        if event.input_received.resumes:
            self._dispatcher.resume(folded)
        return folded.task

    async def delete(self, principal: Principal, task_id: str) -> None:
        """Erase a task that has ended.

        Raises:
            NotFoundError: TASK_NOT_FOUND. StateError: TASK_NOT_TERMINAL.
        """
        row = await self._reader.find(principal, task_id)
        if row.state not in TERMINAL:
            message = "the task has not ended; cancel it first"
            raise StateError(reasons.ERROR_REASON_TASK_NOT_TERMINAL, message, metadata=_state_of(task_id, row.state))
        async with self._erasures.hold(principal.tenant):
            await self._retention.erase(task_id)

    async def delete_session(self, principal: Principal, session_id: str) -> int:
        """Erase a session of the caller's tenant with all its tasks; return their number.

        Raises:
            NotFoundError: SESSION_NOT_FOUND. StateError: SESSION_BUSY.
        """
        try:
            async with self._erasures.hold(principal.tenant):
                erased = await self._retention.erase_session(principal.tenant, session_id)
        except SessionBusyError as busy:
            raise session_busy(session_id, busy.unfinished) from busy
        if not erased:
            message, metadata = "there is no such session", {"session_id": session_id}
            raise NotFoundError(reasons.ERROR_REASON_SESSION_NOT_FOUND, message, metadata=metadata)
        return erased


def _check(principal: Principal, folded: FoldedTask, input_id: str, answer: InputAnswer) -> None:
    """Return if the task accepts this answer now.

    Raises:
        As `TaskCommands.resume`.
    """
    if folded.is_terminal:
        raise StateError(
            reasons.ERROR_REASON_TASK_TERMINAL,
            "the task has ended",
            metadata=_state_of(folded.task.id, folded.task.state),
        )
    asked = next((each for each in folded.task.pending_inputs if each.input_id == input_id), None)
    if asked is None:
        metadata = {"task_id": folded.task.id, "input_id": input_id}
        message = "the task does not wait for this input, or it was answered otherwise"
        raise StateError(reasons.ERROR_REASON_STALE_ANSWER, message, metadata=metadata)
    if folded.submitted.submitter_may_not_answer and principal.key_id == folded.submitted.submitted_by:
        message = "the key that submitted the task may not answer what it asks for"
        metadata = {"task_id": folded.task.id}
        raise PermissionDeniedError(reasons.ERROR_REASON_SUBMITTER_MAY_NOT_ANSWER, message, metadata=metadata)
    _check_kind(asked, answer)


def _check_kind(asked: PendingInput, answer: InputAnswer) -> None:
    takes = ANSWERS[asked.kind]
    if answer.WhichOneof("answer") not in takes:
        kind = short_name(InputKind, asked.kind)
        raise ValidationError([FieldViolation("answer", f"{kind} accepts one of {', '.join(sorted(takes))}")])


def session_busy(session_id: str, unfinished: int) -> StateError:
    """Return the error for a session with too many unfinished tasks."""
    metadata = {"session_id": session_id, "unfinished": str(unfinished)}
    message = f"the session has {unfinished} unfinished tasks"
    return StateError(reasons.ERROR_REASON_SESSION_BUSY, message, metadata=metadata)


def _state_of(task_id: str, state: int) -> dict[str, str]:
    return {"task_id": task_id, "state": short_name(TaskState, state)}

"""Ends tasks past their deadline: queued ones, ones that wait for input, and ones whose process did not end them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import islice

from google.protobuf.message import DecodeError

from agent_service.engine.dispatch.base import LineView
from agent_service.engine.dispatch.local import LocalDispatcher
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.idle_tasks import IdleTasks
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.outcomes import canceled, failed, with_usage
from agent_service.engine.task.state import FoldedTask, ForbiddenTransitionError
from agent_service.errors import OverloadedError
from agent_service.observe.log import EventLog
from agent_service.store.base import LAST_RESORT_US, Journal, TaskIndex
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Failure

# Journals of resumed tasks that are read in one round for their deadlines.
READ_AT_ONCE = 100


class DeadlineSweeper:
    """Ends overdue tasks. Every process sweeps all tasks: each end is an append, which the store admits once."""

    def __init__(
        self,
        journal: Journal,
        index: TaskIndex,
        idle: IdleTasks,
        running: Mapping[str, RunningTask],
        line: LineView,
        dispatcher: LocalDispatcher,
        log: EventLog,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._index = index
        self._idle = idle
        self._running = running
        self._log = log
        self._clock = clock
        self._line = line
        self._dispatcher = dispatcher
        self._deadlines_us: dict[str, int] = {}
        self._failed: set[str] = set()

    async def end_queued(self) -> None:
        """Run one round over tasks whose deadlines the store knows, if tasks are queued here.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        if self._line.counts.waiting:
            await self._end_known()

    async def end_all(self) -> None:
        """Run one round over all tasks.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        await self._end_known()
        await self._end_driven()
        await self._end_resumed()

    async def _end_known(self) -> None:
        """End the tasks that are overdue by the store's columns."""
        for task_id in await self._index.overdue(self._now_us()):
            await self._isolated(task_id, self._expire)

    async def _end_driven(self) -> None:
        """End tasks driven here that do not end by themselves. The store lacks deadlines extended by a wait."""
        last_us = self._now_us() - LAST_RESORT_US

        def is_late(folded: FoldedTask) -> bool:
            return not folded.is_waiting and folded.task.deadline.ToMicroseconds() <= last_us

        async def end_late(folded: FoldedTask) -> None:
            if is_late(folded):
                await self._expire(folded)

        for task_id in [task_id for task_id, running in self._running.items() if is_late(running.folded)]:
            await self._isolated(task_id, end_late)

    async def _expire(self, folded: FoldedTask) -> None:
        reason, message = reasons.ERROR_REASON_DEADLINE_EXCEEDED, "the task's deadline passed before its turn came"
        if folded.is_waiting:
            reason, message = reasons.ERROR_REASON_INPUT_TIMEOUT, "no answer came in time"
        elif folded.task.attempt:
            # The last resort: from now on the store refuses the appends of its driver, which then stops.
            message = "the task's deadline passed, and the process that drives the task did not end it"
        await self._end(folded, reason, message)

    async def _end_resumed(self) -> None:
        """End queued tasks with earlier attempts. Their deadlines are in their journals, and do not change here."""
        now_us = self._now_us()
        resumed = {runnable.task_id: runnable for runnable in self._line.resumed()}
        self._deadlines_us = {
            task_id: deadline_us
            for task_id, deadline_us in self._deadlines_us.items()
            if task_id in resumed and deadline_us > now_us
        }

        async def end_late(folded: FoldedTask) -> None:
            task = folded.task
            if folded.is_waiting or task.attempt != resumed[task.id].attempt:
                return
            deadline_us = self._deadlines_us[task.id] = task.deadline.ToMicroseconds()
            if deadline_us <= now_us:
                late = "the task's deadline passed before it could go on"
                await self._end(folded, reasons.ERROR_REASON_DEADLINE_EXCEEDED, late)

        unknown = (task_id for task_id in resumed if task_id not in self._deadlines_us)
        for task_id in list(islice(unknown, READ_AT_ONCE)):
            await self._isolated(task_id, end_late)

    async def _isolated(self, task_id: str, end: Callable[[FoldedTask], Awaitable[None]]) -> None:
        """Handle one task so that a failure to read or end it does not stop the others.

        Raises:
            OverloadedError: STORE_UNAVAILABLE. If the same task fails again in a row, the error is taken for the task's
                own and not raised.
        """
        try:
            folded = await self._read(task_id)
            if folded is not None and folded.task.state and not folded.is_terminal:
                await end(folded)
        except OverloadedError:
            if task_id not in self._failed:
                self._failed.add(task_id)
                raise
        except Exception as error:  # noqa: BLE001 - a bug that affects one task must not stop the others
            self._log.error("sweep_failed", error, sweep="deadline", task_id=task_id)
        else:
            self._failed.discard(task_id)

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)

    async def _read(self, task_id: str) -> FoldedTask | None:
        try:
            return await read_folded(self._journal, task_id)
        except (DecodeError, ForbiddenTransitionError):
            return None  # logged when it is claimed

    async def _end(self, folded: FoldedTask, reason: reasons.ErrorReason.ValueType, message: str) -> None:
        requested = folded.cancel_requested
        end = failed(Failure(reason=reason, message=message)) if requested is None else canceled(requested.cause)
        if await self._idle.append(folded, with_usage(end, folded)):
            self._dispatcher.forget(folded.task.id)
            if (running := self._running.get(folded.task.id)) is not None:
                await running.look()

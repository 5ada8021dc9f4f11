"""Cancels tasks whose last caller has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent_service.engine.dispatch.base import Dispatcher
from agent_service.engine.task.state import FoldedTask
from agent_service.observe.log import EventLog
from agent_service.service.callers.attached import needs_caller
from agent_service.service.callers.caller_sweep import CallersElsewhere
from agent_service.v1.task_pb2 import CANCEL_CAUSE_DISCONNECT


class Abandonment:
    """Cancels tasks without callers, in the background, unless a task needs none or gets one meanwhile."""

    def __init__(self, dispatcher: Dispatcher, elsewhere: CallersElsewhere, log: EventLog) -> None:
        self._dispatcher = dispatcher
        self._elsewhere = elsewhere
        self._log = log
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """The number of tasks that are being abandoned now."""
        return len(self._ending)

    def abandon(self, task_id: str, has_callers: Callable[[], bool], *, check_elsewhere: bool) -> None:
        """Cancel the task. `has_callers` returns whether it has callers in this process. With `check_elsewhere` it
        stays if it has callers at another process, which does the same once its last caller leaves.
        """
        ending = asyncio.create_task(self._abandon(task_id, has_callers, check_elsewhere=check_elsewhere))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _abandon(self, task_id: str, has_callers: Callable[[], bool], *, check_elsewhere: bool) -> None:
        def is_abandoned(folded: FoldedTask) -> bool:
            # Checked as late as possible: a caller may have come during the check of other processes.
            return needs_caller(folded) and not has_callers()

        try:
            if check_elsewhere and await self._elsewhere.has(task_id):
                return
            await self._dispatcher.cancel(task_id, CANCEL_CAUSE_DISCONNECT, only_if=is_abandoned)
        except Exception as error:  # noqa: BLE001 - no caller is there to get it; the task's deadline ends the task
            self._log.error("abandon_fault", error, task_id=task_id)

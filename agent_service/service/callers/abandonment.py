"""Cancels tasks that have lost their last caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent_service.engine.dispatch.base import Dispatcher
from agent_service.engine.task.state import FoldedTask
from agent_service.observe.log import EventLog
from agent_service.service.callers.attached import needs_caller
from agent_service.service.callers.attendance import CallersElsewhere
from agent_service.v1.task_pb2 import CANCEL_CAUSE_DISCONNECT


class Abandonment:
    """Cancels a task without callers, in the background, unless it needs none or gets one meanwhile."""

    def __init__(self, dispatcher: Dispatcher, elsewhere: CallersElsewhere, log: EventLog) -> None:
        self._dispatcher = dispatcher
        self._elsewhere = elsewhere
        self._log = log
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """Return how many tasks are being abandoned now."""
        return len(self._ending)

    def abandon(self, task_id: str, has_callers: Callable[[], bool], *, ask_others: bool) -> None:
        """Cancel the task. `has_callers` tells whether it has callers in this process. With `ask_others` it may have
        some at another process, which then does the same once the last one has left there.
        """
        ending = asyncio.create_task(self._abandon(task_id, has_callers, ask_others=ask_others))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _abandon(self, task_id: str, has_callers: Callable[[], bool], *, ask_others: bool) -> None:
        def is_abandoned(folded: FoldedTask) -> bool:
            # Asked as late as possible: a caller may have come while the other processes were asked.
            return needs_caller(folded) and not has_callers()

        try:
            if ask_others and await self._elsewhere.has(task_id):
                return
            await self._dispatcher.cancel(task_id, CANCEL_CAUSE_DISCONNECT, only_if=is_abandoned)
        except Exception as error:  # noqa: BLE001 - no caller waits for it; the deadline of the task ends it
            self._log.error("abandon_fault", error, task_id=task_id)

"""Tasks that this process does not drive: queued ones, ones that wait for input, and those of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agent_service.engine.journal_reading import read_folded
from agent_service.engine.journal_writer import IdleWriter
from agent_service.engine.outcomes import canceled, report_end, with_usage
from agent_service.engine.task.state import FoldedTask
from agent_service.feed.base import FeedWriter
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.store.base import Journal
from agent_service.v1.task_event_pb2 import CancelRequested, TaskEvent, TaskSubmitted
from agent_service.v1.task_pb2 import CancelCause


class IdleTasks:
    """Stores, changes and cancels them. An append that ends a task is logged and counted.

    `clock` returns Unix time in seconds.
    """

    def __init__(
        self, journal: Journal, feed: FeedWriter, clock: Callable[[], float], log: EventLog, metrics: Metrics
    ) -> None:
        self._journal = journal
        self._writer = IdleWriter(journal, feed, clock)
        self._log = log
        self._metrics = metrics

    async def submit(self, task_id: str, submitted: TaskSubmitted, on_stored: Callable[[], None]) -> FoldedTask:
        """See `IdleWriter.submit`."""
        return await self._writer.submit(task_id, submitted, on_stored)

    async def append(self, folded: FoldedTask, *events: TaskEvent) -> bool:
        """Append to a task, and fold the events. Return False if the task has changed since it was folded.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        # In its own asyncio task: a cancelled caller does not withdraw the append, and an end is reported in any case.
        return await asyncio.shield(asyncio.create_task(self._append(folded, events)))

    async def cancel(
        self,
        task_id: str,
        cause: CancelCause.ValueType,
        requested_by: str = "",
        *,
        only_if: Callable[[FoldedTask], bool] = lambda _: True,
    ) -> FoldedTask:
        """Cancel a task: immediately if no process drives it, else by a request in its journal. Return the task
        afterwards. A task that has ended, or for which `only_if` is false, stays unchanged. If there is an earlier
        request, its cause is kept.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        while True:
            folded = await read_folded(self._journal, task_id)
            if folded.is_terminal or not folded.task.state or not only_if(folded):
                return folded
            events, requested = [], folded.cancel_requested
            if requested is None:
                requested = CancelRequested(cause=cause, requested_by=requested_by)
                events.append(TaskEvent(cancel_requested=requested))
            if not folded.attempt_is_open:
                events.append(with_usage(canceled(requested.cause), folded))
            if not events or await self.append(folded, *events):
                return folded

    async def _append(self, folded: FoldedTask, events: Sequence[TaskEvent]) -> bool:
        if not await self._writer.append(folded, events):
            return False
        if folded.is_terminal:
            report_end(self._log, self._metrics, folded)
        return True

"""Housekeeping: adopts orphaned tasks, ends overdue ones, counts those that wait for input.

Every process of a store does it. There is no leader: each step is an append, which the store admits once.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent_service.engine.dispatch.local import LocalDispatcher
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.sweeps.deadlines import DeadlineSweeper
from agent_service.observe.metrics import Metrics
from agent_service.store.base import Orphan, TaskIndex, Workers

COUNT_EVERY = 5
# Orphans of each kind per round; the next round continues after them.
ADOPTED_AT_ONCE = 1000


class Housekeeping:
    """Sweeps the store's tasks, including those that the store lists as driven here and that are not."""

    def __init__(
        self,
        index: TaskIndex,
        workers: Workers,
        worker: str,
        running: Mapping[str, RunningTask],
        dispatcher: LocalDispatcher,
        deadlines: DeadlineSweeper,
        metrics: Metrics,
    ) -> None:
        self._index = index
        self._workers = workers
        self._worker = worker
        self._metrics = metrics
        self._running = running
        self._dispatcher = dispatcher
        self._deadlines = deadlines
        self._cursors = {True: 0, False: 0}
        self._round = 0

    async def begin(self) -> int:
        """Adopt orphaned tasks at the start; return how many. Requires a first heartbeat.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        found = 0
        for begun in (True, False):
            found += await self._adopt(begun=begun)
            while self._cursors[begun] and found < 10 * ADOPTED_AT_ONCE:
                found += await self._adopt(begun=begun)
        return found

    async def sweep(self) -> None:
        """Run one round.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        self._round += 1
        # Started tasks first: they are few, and callers may be waiting for them.
        await self._adopt(begun=True)
        await self._deadlines.end_all()
        await self._dispatcher.retry()
        await self._adopt(begun=False)
        if self._round % COUNT_EVERY == 1:
            self._metrics.tasks_waiting.set(await self._index.waiting_for_input())

    async def _adopt(self, *, begun: bool) -> int:
        """Adopt one page of orphans. Queued tasks remain orphans until they start, so the cursor wraps around."""
        found = await self._workers.orphans(
            self._worker,
            set(self._running),
            begun=begun,
            after=self._cursors[begun],
            limit=ADOPTED_AT_ONCE,
        )
        for orphan in found:
            await self._notice_loss(orphan)
        self._cursors[begun] = found[-1].cursor if len(found) == ADOPTED_AT_ONCE else 0
        return sum(self._dispatcher.adopt(orphan) for orphan in found)

    async def _notice_loss(self, orphan: Orphan) -> None:
        """Stop driving a task here that another process took over, and which is an orphan again."""
        running = self._running.get(orphan.task_id)
        if running is not None and orphan.attempt > running.folded.task.attempt:
            await running.look()

"""Periodic work: adopting orphaned tasks, ending overdue ones, counting those that wait for input.

Every process of a store does it. None of it needs a leader: each step is an append that the store admits once.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent_service.engine.dispatch.local import LocalDispatcher
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.runtime import Ports
from agent_service.engine.sweeps.deadlines import DeadlineSweeper
from agent_service.store.base import Orphan

COUNT_EVERY = 5
# Orphans that are looked at in a round, of each kind; the next round goes on behind them.
ADOPTED_AT_ONCE = 1000


class Housekeeping:
    """Looks after the store's tasks, and after those that the store takes to be driven here and are not."""

    def __init__(
        self,
        ports: Ports,
        running: Mapping[str, RunningTask],
        dispatcher: LocalDispatcher,
        overdue: DeadlineSweeper,
    ) -> None:
        self._ports = ports
        self._running = running
        self._index = ports.index
        self._workers = ports.workers
        self._dispatcher = dispatcher
        self._overdue = overdue
        self._cursors = {True: 0, False: 0}
        self._turn = 0

    async def begin(self) -> int:
        """Adopt orphaned tasks; return how many. The first heartbeat comes before this.

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
        """Do one round.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        self._turn += 1
        # Tasks that were begun come first: there are few of them, and callers may be waiting.
        await self._adopt(begun=True)
        await self._overdue.end_all()
        await self._dispatcher.retry()
        await self._adopt(begun=False)
        if self._turn % COUNT_EVERY == 1:
            self._ports.metrics.tasks_waiting.set(await self._index.waiting_for_input())

    async def _adopt(self, *, begun: bool) -> int:
        """One page of orphans. Many stay what they are after they were found, until their turn comes: so the pages go
        round.
        """
        found = await self._workers.orphans(
            self._ports.worker,
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
        """A task that is still driven here, in an older attempt, went to a process that has ended since."""
        running = self._running.get(orphan.task_id)
        if running is not None and orphan.attempt > running.folded.task.attempt:
            await running.look()

"""What has to be seen to again and again: that this process lives, what nobody drives, what is overdue, what is old.

Every process of a store does it. None of it needs a leader: each step is an append that the store admits once, or
erases what is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Set

from agent_service.engine.dispatcher import Dispatcher
from agent_service.engine.overdue import Overdue
from agent_service.engine.runtime import Ports
from agent_service.engine.tail import Tail
from agent_service.errors import OverloadedError

INTERVAL_S = 1.0
BEAT_EVERY = 2
COUNT_EVERY = 5
ERASE_EVERY = 60
# Old tasks go so many in a commit, with a pause, so that nobody's append waits for long.
ERASED_AT_ONCE = 100
ERASE_PAUSE_S = 0.05


class Upkeep:
    """Looks after the store's tasks. `attended` are those that have callers here, which the other processes are told;
    `retention_s` is how long finished ones are kept, 0 for ever.
    """

    def __init__(
        self,
        ports: Ports,
        dispatcher: Dispatcher,
        overdue: Overdue,
        tail: Tail,
        attended: Callable[[], Set[str]],
        *,
        retention_s: float,
    ) -> None:
        self._ports = ports
        self._store = ports.store
        self._dispatcher = dispatcher
        self._overdue = overdue
        self._tail = tail
        self._attended = attended
        self._told: Set[str] = frozenset()
        self._retention_s = retention_s
        self._turn = 0

    async def begin(self) -> int:
        """Take this process's place among the others and take up what nobody drives; how many tasks.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        await self._beat()
        return await self._adopt_orphans(limit=10_000)

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._once()
            except OverloadedError:
                """The store is away, which readiness tells; it will all be there when it is back."""
            except Exception as error:  # noqa: BLE001 - a bug in one round must not end the others
                self._ports.log.error("upkeep_fault", error)

    async def _once(self) -> None:
        self._turn += 1
        if self._turn % BEAT_EVERY == 0 or self._has_news():
            await self._beat()
        await self._overdue.end_all()
        self._dispatcher.retry_sessions()
        await self._adopt_orphans(limit=1000)
        if self._turn % COUNT_EVERY == 1:
            self._ports.metrics.tasks_waiting.set(await self._store.waiting_for_input())
        if self._retention_s and self._turn % ERASE_EVERY == 1:
            await self._erase_old()

    def _has_news(self) -> bool:
        """Whether the other processes do not know yet which tasks have callers here."""
        return self._tail.has_company and self._attended() != self._told

    async def _beat(self) -> None:
        self._told = frozenset(self._attended()) if self._tail.has_company else frozenset()
        others = await self._store.beat(self._ports.worker, self._told)
        self._tail.has_company = others > 0
        self._ports.limiter.share(1 + others)

    async def _adopt_orphans(self, *, limit: int) -> int:
        orphans = await self._store.orphans(self._ports.worker, limit=limit)
        return sum(self._dispatcher.adopt(orphan) for orphan in orphans)

    async def _erase_old(self) -> None:
        before_us = int((time.time() - self._retention_s) * 1e6)
        erased = ERASED_AT_ONCE
        while erased == ERASED_AT_ONCE:
            erased = await self._store.erase_finished(before_us, limit=ERASED_AT_ONCE)
            await asyncio.sleep(ERASE_PAUSE_S)

"""What has to be seen to again and again: that this process lives, what nobody drives, what is overdue, what is old.

Every process of a store does it. None of it needs a leader: each step is an append that the store admits once, or
erases what is over.
"""

from __future__ import annotations

import asyncio
import time

from google.protobuf.message import DecodeError

from agent_service.engine.dispatcher import Dispatcher
from agent_service.engine.ends import append_idle, failed, with_usage
from agent_service.engine.reading import read_folded
from agent_service.engine.runtime import Ports
from agent_service.engine.tail import Tail
from agent_service.engine.task_state import ForbiddenTransitionError
from agent_service.errors import OverloadedError
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Failure

INTERVAL_S = 1.0
BEAT_EVERY = 2
ERASE_EVERY = 60
# Old tasks go so many in a commit, with a pause, so that nobody's append waits for long.
ERASED_AT_ONCE = 100
ERASE_PAUSE_S = 0.05


class Upkeep:
    """Looks after the store's tasks. `retention_s` is how long finished ones are kept; 0 keeps them for ever."""

    def __init__(self, ports: Ports, dispatcher: Dispatcher, tail: Tail, *, retention_s: float) -> None:
        self._ports = ports
        self._store = ports.store
        self._dispatcher = dispatcher
        self._tail = tail
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
        if self._turn % BEAT_EVERY == 0:
            await self._beat()
        await self._end_overdue()
        self._dispatcher.retry_sessions()
        await self._adopt_orphans(limit=1000)
        if self._retention_s and self._turn % ERASE_EVERY == 1:
            await self._erase_old()

    async def _beat(self) -> None:
        others = await self._store.beat(self._ports.worker)
        self._tail.has_company = others > 0
        self._ports.limiter.share(1 + others)

    async def _adopt_orphans(self, *, limit: int) -> int:
        orphans = await self._store.orphans(self._ports.worker, limit=limit)
        return sum(self._dispatcher.adopt(orphan) for orphan in orphans)

    async def _end_overdue(self) -> None:
        for task_id in await self._store.overdue(time.time_ns() // 1000):
            try:
                folded = await read_folded(self._store, task_id)
            except (DecodeError, ForbiddenTransitionError):
                continue  # told when somebody tries to drive it
            if folded.is_waiting:
                reason, message = reasons.ERROR_REASON_INPUT_TIMEOUT, "nobody answered in time"
            elif folded.task.attempt == 0:
                reason = reasons.ERROR_REASON_DEADLINE_EXCEEDED
                message = "the task's deadline passed before its turn came"
            else:
                continue
            end = with_usage(failed(Failure(reason=reason, message=message)), folded)
            if await append_idle(self._ports, folded, end):
                self._dispatcher.remove(task_id)

    async def _erase_old(self) -> None:
        before_us = int((time.time() - self._retention_s) * 1e6)
        erased = ERASED_AT_ONCE
        while erased == ERASED_AT_ONCE:
            erased = await self._store.erase_finished(before_us, limit=ERASED_AT_ONCE)
            await asyncio.sleep(ERASE_PAUSE_S)

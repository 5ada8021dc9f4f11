"""Erases finished tasks once they are old enough, in bounded batches. Every process of a store does it."""

from __future__ import annotations

import asyncio

from agent_service.engine.runtime import Ports
from agent_service.errors import OverloadedError

INTERVAL_S = 60.0
# Old tasks go so many in a commit, with a pause, so that no append waits for long.
ERASED_AT_ONCE = 100
ERASE_PAUSE_S = 0.05


class Retention:
    """`retention_s` is how long finished tasks are kept; 0 keeps them."""

    def __init__(self, ports: Ports, *, retention_s: float) -> None:
        self._ports = ports
        self._retention_s = retention_s

    async def run(self) -> None:
        """Erase what is old until cancelled."""
        while self._retention_s:
            try:
                await self._erase_old()
            except OverloadedError:
                pass  # the store cannot be used; the tasks are still old when it can
            except Exception as error:  # noqa: BLE001 - one failed round must not be the last
                self._ports.log.error("retention_fault", error)
            await asyncio.sleep(INTERVAL_S)

    async def _erase_old(self) -> None:
        before_us = int((self._ports.clock() - self._retention_s) * 1e6)
        erased = ERASED_AT_ONCE
        while erased == ERASED_AT_ONCE:
            erased = await self._ports.retention.erase_finished(before_us, limit=ERASED_AT_ONCE)
            await asyncio.sleep(ERASE_PAUSE_S)

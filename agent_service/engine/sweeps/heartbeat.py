"""The heartbeat of this process, and nothing else: no other work of the process delays it."""

from __future__ import annotations

import asyncio

from agent_service.engine.runtime import Ports
from agent_service.errors import OverloadedError
from agent_service.store.base import Peers

INTERVAL_S = 1.0


class Heartbeat:
    """Beats, and keeps what the last beat found of the other processes in `peers`."""

    def __init__(self, ports: Ports) -> None:
        self.peers = Peers(0, frozenset())
        self._ports = ports

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.beat()
            except OverloadedError:
                pass  # the store cannot be used, which readiness reports
            except Exception as error:  # noqa: BLE001 - one failed beat must not be the last
                self._ports.log.error("heartbeat_fault", error)

    async def beat(self) -> Peers:
        """Beat once.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        self.peers = await self._ports.workers.heartbeat(self._ports.worker)
        self._ports.limiter.share(1 + self.peers.living)
        return self.peers

"""The heartbeat of this process, and nothing else: no other work of the process delays it."""

from __future__ import annotations

from agent_service.engine.runtime import Ports
from agent_service.store.base import Peers


class Heartbeat:
    """Beats, and keeps what the last beat found of the other processes in `peers`."""

    def __init__(self, ports: Ports) -> None:
        self.peers = Peers(0, frozenset())
        self._ports = ports

    async def send(self) -> Peers:
        """Beat once.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        self.peers = await self._ports.workers.heartbeat(self._ports.worker)
        self._ports.limiter.share(1 + self.peers.living)
        return self.peers

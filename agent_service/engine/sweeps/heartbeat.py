"""The heartbeat of this process. It has an asyncio task of its own, so that other sweeps do not delay it."""

from __future__ import annotations

from agent_service.engine.runtime import Ports
from agent_service.store.base import Peers


class Heartbeat:
    """Sends heartbeats. `peers` are the other processes as of the last heartbeat."""

    def __init__(self, ports: Ports) -> None:
        self.peers = Peers(0, frozenset())
        self._ports = ports

    async def send(self) -> Peers:
        """Send one heartbeat, and adapt the limits to the number of living processes.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        self.peers = await self._ports.workers.heartbeat(self._ports.worker)
        self._ports.limiter.share(1 + self.peers.living)
        return self.peers

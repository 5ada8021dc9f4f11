"""The heartbeat of this process. It has an asyncio task of its own, so that other sweeps do not delay it."""

from __future__ import annotations

from agent_service.limits.base import Limiter
from agent_service.store.base import Peers, Workers


class Heartbeat:
    """Sends heartbeats. `peers` are the other processes as of the last heartbeat."""

    def __init__(self, workers: Workers, worker: str, limiter: Limiter) -> None:
        self.peers = Peers(0, frozenset())
        self._workers = workers
        self._worker = worker
        self._limiter = limiter

    async def send(self) -> Peers:
        """Send one heartbeat, and adapt the limits to the number of living processes.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        self.peers = await self._workers.heartbeat(self._worker)
        self._limiter.share(1 + self.peers.living)
        return self.peers

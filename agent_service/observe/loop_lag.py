"""How late an event loop is: what keeps it busy keeps every call and every task waiting."""

from __future__ import annotations

import asyncio
import time

from agent_service.observe.instruments import Distribution

INTERVAL_S = 0.1


class LoopLag:
    """Wakes up ten times a second and tells how late it was."""

    def __init__(self, lag: Distribution) -> None:
        self._lag = lag
        self._due_at = time.monotonic() + INTERVAL_S

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            self._due_at = time.monotonic() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._lag.observe(self.late_s())

    def late_s(self) -> float:
        """Return how late the loop is now; of a loop that stands still it can be asked from another thread."""
        return max(0.0, time.monotonic() - self._due_at)

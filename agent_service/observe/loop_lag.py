"""Measures the lag of an event loop: code that blocks it delays every call and every task."""

from __future__ import annotations

import asyncio
import time

from agent_service.observe.instruments import Distribution

INTERVAL_S = 0.1


class LoopLag:
    """Wakes up ten times a second and reports how late it was."""

    def __init__(self, lag: Distribution) -> None:
        self._lag = lag
        self._due_at = time.monotonic() + INTERVAL_S

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            self._due_at = time.monotonic() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._lag.observe(self.late_s())

    def late_s(self) -> float:
        """Return how late the loop is now. May be called from another thread while the loop is blocked."""
        return max(0.0, time.monotonic() - self._due_at)

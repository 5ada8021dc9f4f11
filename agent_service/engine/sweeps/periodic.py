"""Runs periodic work, with one policy for rounds that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent_service.errors import OverloadedError
from agent_service.observe.log import EventLog


class Periodic:
    """Runs `step` every `interval_s` until it is cancelled; first after one interval, or at once.

    A round that fails does not stop the later ones. OverloadedError, an unavailable store, is not logged, because
    readiness reports it. Any other error is a bug, logged as `sweep_failed` with the sweep's name.
    """

    def __init__(
        self,
        name: str,
        interval_s: float,
        step: Callable[[], Awaitable[object]],
        log: EventLog,
        *,
        at_once: bool = False,
    ) -> None:
        self.rounds = 0
        self._name = name
        self._interval_s = interval_s
        self._step = step
        self._log = log
        self._at_once = at_once

    async def run(self) -> None:
        """Work until cancelled."""
        if not self._at_once:
            await asyncio.sleep(self._interval_s)
        while True:
            try:
                await self._step()
            except OverloadedError:
                pass
            except Exception as error:  # noqa: BLE001 - a bug in one round must not end the others
                self._log.error("sweep_failed", error, sweep=self._name)
            self.rounds += 1
            await asyncio.sleep(self._interval_s)

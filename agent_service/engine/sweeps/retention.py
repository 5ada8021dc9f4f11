"""Erases finished tasks after the retention time, in bounded batches. Every process of a store does it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent_service.store import base

# Tasks erased per commit, with a pause between commits, so that appends do not wait long.
ERASED_AT_ONCE = 100
ERASE_PAUSE_S = 0.05


class Retention:
    """`retention_s` is how long finished tasks are kept; 0 keeps them."""

    def __init__(self, store: base.Retention, clock: Callable[[], float], *, retention_s: float) -> None:
        self._store = store
        self._clock = clock
        self._retention_s = retention_s

    async def erase_old(self) -> None:
        """Erase finished tasks that are older than the retention time.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        if not self._retention_s:
            return
        before_us = int((self._clock() - self._retention_s) * 1e6)
        erased = ERASED_AT_ONCE
        while erased == ERASED_AT_ONCE:
            erased = await self._store.erase_finished(before_us, limit=ERASED_AT_ONCE)
            await asyncio.sleep(ERASE_PAUSE_S)

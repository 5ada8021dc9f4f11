"""Requests of one request_id come in one at a time, so that a repetition finds the task that the first one became."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Arrivals:
    """One process's door. What comes in elsewhere meanwhile, the store tells apart."""

    def __init__(self) -> None:
        # Each is kept by those who hold it or wait for it.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, tenant: str, request_id: str) -> AsyncIterator[bool]:
        """While it is the request's turn; whether it had to wait, and so is likely to be a repetition."""
        lock = self._locks.setdefault((tenant, request_id), asyncio.Lock())
        waits = lock.locked()
        async with lock:
            yield waits

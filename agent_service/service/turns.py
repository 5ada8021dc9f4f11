"""One at a time, of what has one key.

Requests of one request_id: a repetition then finds the task that the first one became. What is costly, of one tenant:
others then wait for one such thing at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """Those of one process. First come, first served."""

    def __init__(self) -> None:
        # Each is kept by those who hold it or wait for it.
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, *key: str) -> AsyncIterator[bool]:
        """While it is the caller's turn; whether it had to wait."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        waits = lock.locked()
        async with lock:
            yield waits

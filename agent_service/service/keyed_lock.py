"""A lock for each key, first come, first served.

Requests with one request_id pass one at a time, so that a repetition finds the task that the first request created.
Expensive requests pass one at a time for each tenant, so that other tenants wait for at most one of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class _Entry:
    """The lock of one key, and how long its last holder took."""

    __slots__ = ("__weakref__", "lock", "took_s")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.took_s = 0.0


class KeyedLock:
    """Locks of one process.

    A holder that had to wait first sleeps `rest` times as long as the holder before it took. So a queue that is never
    empty leaves that share of the process to other work.
    """

    def __init__(self, *, rest: float = 0.0) -> None:
        self._rest = rest
        # Holders and waiters keep an entry alive; unused entries disappear.
        self._entries: WeakValueDictionary[tuple[str, ...], _Entry] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, *key: str) -> AsyncIterator[bool]:
        """Hold the lock of a key. Yield whether the caller had to wait for it."""
        entry = self._entries.setdefault(key, _Entry())
        waits = entry.lock.locked()
        async with entry.lock:
            if waits and self._rest:
                await asyncio.sleep(self._rest * entry.took_s)
            began = time.monotonic()
            try:
                yield waits
            finally:
                entry.took_s = time.monotonic() - began

"""One at a time, of what has one key.

Requests of one request_id: a repetition then finds the task that the first one became. What is costly, of one tenant:
others then wait for one such thing at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class _Turn:
    """Whose turn it is of one key, and how long the last one took."""

    __slots__ = ("__weakref__", "lock", "took_s")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.took_s = 0.0


class Turns:
    """Those of one process. First come, first served.

    Where several wait in line there is a rest before each, `rest` times as long as the one before it took: a line that
    is never empty leaves that part of the process to others.
    """

    def __init__(self, *, rest: float = 0.0) -> None:
        self._rest = rest
        # Each is kept by those who hold it or wait for it.
        self._turns: WeakValueDictionary[tuple[str, ...], _Turn] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, *key: str) -> AsyncIterator[bool]:
        """While it is the caller's turn; whether it had to wait."""
        turn = self._turns.setdefault(key, _Turn())
        waits = turn.lock.locked()
        async with turn.lock:
            if waits and self._rest:
                await asyncio.sleep(self._rest * turn.took_s)
            began = time.monotonic()
            try:
                yield waits
            finally:
                turn.took_s = time.monotonic() - began

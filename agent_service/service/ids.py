"""Generates the ids of tasks and requests."""

from __future__ import annotations

import os
import time


class Ids:
    """Generates ids from the system's random bytes. Reads many at once: one read costs as much as validating a call."""

    POOL_BYTES = 4096

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def task_id(self) -> str:
        """32 hex digits: 48 bits of milliseconds, so that ids sort by age and rows lie together; 80 random bits."""
        return f"{time.time_ns() // 1_000_000:012x}{self._random_hex(10)}"

    def request_id(self) -> str:
        """16 random hex digits."""
        return self._random_hex(8)

    def _random_hex(self, length: int) -> str:
        if self._used + length > len(self._pool):
            self._pool, self._used = os.urandom(self.POOL_BYTES), 0
        self._used += length
        return self._pool[self._used - length : self._used].hex()

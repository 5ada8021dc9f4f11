"""The liveness rule of all stores: decides which other workers are silent, from the view of one process.

Each worker increments a counter with every heartbeat. A worker is silent once its counter has not changed for
`silence_max_s` of the observer's monotonic clock. Only time between two successful observations counts, and one
interval counts for at most a fifth of the limit: so an observer that was suspended, or that could not use the store,
finds no worker silent. Wall clocks are not used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

# The minimum of observations of an unchanged counter before its worker is silent.
LOOKS_MIN = 5


class _Seen(NamedTuple):
    last_count: int | None
    silent_s: float


class Liveness:
    """The counters of the other workers, as observed by one process. `clock` is monotonic, in seconds."""

    def __init__(self, silence_max_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence_max_s = silence_max_s
        self._clock = clock
        self._looked_at: float | None = None
        # Replaced as a whole, since other threads read it.
        self._seen: Mapping[str, _Seen] = {}

    def observe(self, counts: Mapping[str, int | None]) -> None:
        """Record the counters of all other workers, after the own heartbeat was stored. None: the counter could not be
        read, and its worker's state does not change.
        """
        now = self._clock()
        passed_s = 0.0 if self._looked_at is None else min(now - self._looked_at, self._silence_max_s / LOOKS_MIN)
        self._looked_at = now
        self._seen = {worker: self._next(worker, count, passed_s) for worker, count in counts.items()}

    def interrupt(self) -> None:
        """Record that a heartbeat or an observation failed: the time until the next one does not count."""
        self._looked_at = None

    def is_silent(self, worker: str) -> bool:
        """Return whether the worker's counter has not changed for too long. A worker without observations is not
        silent.
        """
        seen = self._seen.get(worker)
        return seen is not None and seen.silent_s >= self._silence_max_s

    def _next(self, worker: str, count: int | None, passed_s: float) -> _Seen:
        seen = self._seen.get(worker)
        if count is None:
            return seen or _Seen(None, 0.0)
        if seen is None or seen.last_count != count:
            return _Seen(count, 0.0)
        return _Seen(count, seen.silent_s + passed_s)

"""The rule of liveness, the same for every store: which of the other workers are silent, as one process judges it.

Each worker raises a counter with every heartbeat. A worker is silent once its counter has not moved for `silence_max_s`
of the observer's monotonic clock. Time counts only between two looks that both succeeded, and one interval counts for
at most a fifth of the limit: so an observer that was stopped, or that could not use the store, accuses nobody. Wall
clocks play no part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

# So many looks, at least, find a counter unmoved before its worker is silent.
LOOKS_MIN = 5


class _Seen(NamedTuple):
    last_count: int | None
    silent_s: float


class Liveness:
    """What one process has seen of the counters of the others. `clock` is monotonic, in seconds."""

    def __init__(self, silence_max_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence_max_s = silence_max_s
        self._clock = clock
        self._looked_at: float | None = None
        # Replaced as a whole, since other threads read it.
        self._seen: Mapping[str, _Seen] = {}

    def observe(self, counts: Mapping[str, int | None]) -> None:
        """The own heartbeat was stored, and these are the counters of all other workers; None for one that could not
        be read, which is no evidence of anything.
        """
        now = self._clock()
        passed_s = 0.0 if self._looked_at is None else min(now - self._looked_at, self._silence_max_s / LOOKS_MIN)
        self._looked_at = now
        self._seen = {worker: self._next(worker, count, passed_s) for worker, count in counts.items()}

    def interrupt(self) -> None:
        """A heartbeat or a look failed: the time up to the next one counts against nobody."""
        self._looked_at = None

    def is_silent(self, worker: str) -> bool:
        """Return whether the worker's counter has stood still for too long. One that was never looked at
        is not silent.
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

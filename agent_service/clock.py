"""Unix time that does not jump, for deadlines, expiries and the times of events.

The system's clock may be set at any time, by an hour or by years. This clock advances with the monotonic clock and
follows the system's at a bounded rate, so that every span between two readings is accurate to within `SLEW`, and
readings never decrease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from threading import Lock

# The rate at which an error is corrected: an hour in twenty hours.
SLEW = 0.05


def _monotonic() -> Callable[[], float]:
    """Return the clock of elapsed seconds; where the system can tell, a sleep of the machine counts."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if boot is None else partial(time.clock_gettime, boot)


class SteadyClock:
    """A callable that returns Unix time in seconds. It begins at the system's time. Safe to call from any thread."""

    def __init__(self, wall: Callable[[], float] | None = None, elapsed: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._elapsed = elapsed or _monotonic()
        self._lock = Lock()
        self._at = self._elapsed()
        self._time = time.time() if wall is None else wall()

    def __call__(self) -> float:
        with self._lock:
            at = self._elapsed()
            passed, self._at = at - self._at, at
            steady = self._time + passed
            error = (time.time() if self._wall is None else self._wall()) - steady
            bound = SLEW * passed
            if error > bound:
                error = bound
            elif error < -bound:
                error = -bound
            self._time = steady + error
            return self._time

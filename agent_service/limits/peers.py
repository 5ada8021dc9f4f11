"""How often each peer did what it should not, in a sliding window, for as many peers as memory allows.

No rule of the configuration and no part of the Limiter port: these counters refuse nobody work, hold no tenants, and
are each process's own.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from agent_service.errors import RateLimitError
from agent_service.limits.window import Entry, Window, Windows, add
from agent_service.v1 import error_reason_pb2 as reasons

# Each takes up to 2 KB where it failed as often as the default maximum. Of more, those are forgotten that failed least
# lately: that costs nobody anything but the answer that it gets.
PEERS_MAX = 10_000


class PeerFailures:
    """Failures per peer, at most `limit` in any `window_s` seconds. `rule` and `unit` are what the errors say.

    `clock` gives seconds and never goes back.
    """

    def __init__(
        self, rule: str, unit: str, limit: int, window_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rule, self._unit, self._limit, self._window_s = rule, unit, limit, window_s
        self._clock = clock
        self._peers: OrderedDict[str, Windows] = OrderedDict()

    def __len__(self) -> int:
        """How many peers are remembered."""
        return len(self._peers)

    def count(self, peer: str) -> RateLimitError | None:
        """Count one more failure; where it is one too many, it is not counted, and the error says so."""
        now = self._clock()
        windows = self._peers.get(peer) or self._new(peer)
        self._peers.move_to_end(peer)
        (window,) = windows
        if window.fits(1, now):
            add(windows, Entry(now, 1))
            return None
        return RateLimitError(
            reasons.ERROR_REASON_RATE_LIMITED_CALLS,
            f"at most {self._limit} {self._unit} in {self._window_s:g} s for {window.subject} (rule {self._rule})",
            rule=self._rule,
            limit=self._limit,
            subject=window.subject,
            retry_after_s=window.fits_at(1, now) - now,
        )

    def _new(self, peer: str) -> Windows:
        if len(self._peers) >= PEERS_MAX:
            self._peers.popitem(last=False)
        subject = f"peer:{peer}"
        made = Window(rule=self._rule, subject=subject, unit=self._unit, limit=self._limit, span_s=self._window_s)
        windows = self._peers[peer] = (made,)
        return windows

"""Bounds the number of calls under way at once: per server, per key and per address.

Four pools are independent of each other: calls that are answered at once, calls that stay open for their task, and the
same two kinds of health and reflection, which need no key. In each pool, one key or address gets only a part. A call
takes its place when its headers have arrived, and frees it when it ends, with or without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from agent_service.errors import AgentServiceError, OverloadedError, RateLimitError
from agent_service.observe.metrics import Metrics
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.peer import address
from agent_service.v1 import error_reason_pb2 as reasons

# An estimate: the time until a place is free is unknown, and most calls are short.
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The maximum of calls in a pool, in total, of one key and from one address."""

    calls_max: int
    per_key_max: int
    per_peer_max: int


@dataclass(frozen=True, slots=True)
class AdmissionBounds:
    """The bounds of each pool. `public_calls` applies to short calls and to watchers of health and reflection, each in
    a pool of its own; these have no keys.
    """

    calls: Bounds
    open_calls: Bounds
    public_calls: Bounds


class Pool:
    """The calls of one kind that are under way."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        self.name = name
        self.calls = 0
        self._bounds = bounds
        self._of_keys: dict[str, int] = {}
        self._of_peers: dict[str, int] = {}

    def acquire(self, key: str, peer: str) -> None:
        """Take a place.

        Raises:
            OverloadedError: the pool is full.
            RateLimitError: this key or address has used its part.
        """
        bounds = self._bounds
        of_key = self._of_keys.get(key, 0)
        of_peer = self._of_peers.get(peer, 0)
        if key and of_key >= bounds.per_key_max:
            raise self._too_many("key", bounds.per_key_max)
        if of_peer >= bounds.per_peer_max:
            raise self._too_many("peer", bounds.per_peer_max)
        if self.calls >= bounds.calls_max:
            message, metadata = f"the server has {bounds.calls_max} {self._label} under way", {"rule": self.name}
            raise OverloadedError(reasons.ERROR_REASON_OVERLOADED, message, metadata=metadata)
        self.calls += 1
        self._of_keys[key] = of_key + 1
        self._of_peers[peer] = of_peer + 1

    def release(self, key: str, peer: str) -> None:
        """Free a place that was taken for the same key and address."""
        self.calls -= 1
        for counts, name in ((self._of_keys, key), (self._of_peers, peer)):
            left = counts[name] - 1
            if left:
                counts[name] = left
            else:
                del counts[name]

    @property
    def rules(self) -> tuple[str, str, str]:
        """The names of the bounds, as refusals report them."""
        return self.name, f"{self.name}_per_key", f"{self.name}_per_peer"

    @property
    def _label(self) -> str:
        return self.name.replace("_", " ")

    def _too_many(self, whose: str, limit: int) -> RateLimitError:
        return RateLimitError(
            reasons.ERROR_REASON_TOO_MANY_CALLS,
            f"{limit} {self._label} of this {whose} are under way; wait until some have ended",
            rule=f"{self.name}_per_{whose}",
            limit=limit,
            subject=whose,
            retry_after_s=RETRY_AFTER_S,
        )


class Place(NamedTuple):
    """A call's place in a pool, counted for a key and an address."""

    pool: Pool
    key: str
    peer: str


class Admission(Interceptor[Place]):
    """Refuses a call if its pool is full, or if its key or address has used its part."""

    def __init__(self, bounds: AdmissionBounds, metrics: Metrics) -> None:
        self._metrics = metrics
        self._calls = Pool("calls", bounds.calls)
        self._open_calls = Pool("open_calls", bounds.open_calls)
        self._public_calls = Pool("public_calls", bounds.public_calls)
        self._health_watches = Pool("health_watches", bounds.public_calls)
        for pool in (self._calls, self._open_calls, self._public_calls, self._health_watches):
            metrics.watch_calls(pool.name, partial(getattr, pool, "calls"))
            for rule in pool.rules:
                metrics.calls_refused(rule)

    def on_call(self, call: Call) -> Place:
        if call.method.is_public:
            pool = self._health_watches if call.method.stays_open else self._public_calls
        else:
            pool = self._open_calls if call.method.stays_open else self._calls
        key = call.principal.key_id if call.principal else ""
        peer = address(call.peer)
        try:
            pool.acquire(key, peer)
        except AgentServiceError as refused:
            self._metrics.calls_refused(refused.metadata["rule"]).inc()
            raise
        return Place(pool, key, peer)

    def on_end(self, token: Place, call: Call) -> None:
        token.pool.release(token.key, token.peer)

"""Counts the calls that start work, by the rules that match by tenant alone."""

from __future__ import annotations

import math

from agent_service.errors import OverloadedError, RateLimitError
from agent_service.limits.base import Charge, Limiter, LimitStatus, Stage, Subject
from agent_service.server.call import SERVICE, Call
from agent_service.server.interceptors.base import Interceptor

LIMITED = frozenset(f"/{SERVICE}/{name}" for name in ("RunTask", "StreamTask", "SubmitTask", "ToolInvoke"))


class RateLimit(Interceptor):
    """Tells the caller how its tightest rule stands."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def on_call(self, call: Call) -> None:
        if call.method in LIMITED:
            charge = Charge(Subject(call.caller.tenant), Stage.EDGE, calls=1)
            try:
                reservation = await self._limiter.reserve(charge)
            except RateLimitError as full:
                # Not one call more fits before then, so nothing remains.
                status = LimitStatus(full.rule, full.limit, 0, full.retry_after_s or 0.0)
                call.reply_metadata.extend(ratelimit_metadata(status))
                raise
            call.charged = reservation
            if reservation.status is not None:
                call.reply_metadata.extend(ratelimit_metadata(reservation.status))

    async def on_error(self, call: Call) -> None:
        # What we could not take is none of the caller's share: it will be asked again.
        if call.charged is not None and isinstance(call.error, OverloadedError):
            await self._limiter.refund(call.charged)


def ratelimit_metadata(status: LimitStatus) -> list[tuple[str, str]]:
    """`ratelimit-reset` in whole seconds, rounded up."""
    return [
        ("ratelimit-limit", str(status.limit)),
        ("ratelimit-remaining", str(status.remaining)),
        ("ratelimit-reset", str(math.ceil(status.reset_s))),
    ]

"""Counts the calls that start work, by the rules that match by tenant alone."""

from __future__ import annotations

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
            call.charged = await self._limiter.reserve(charge)
            call.limited_by(call.charged.status)

    async def on_error(self, call: Call) -> None:
        if isinstance(call.error, RateLimitError):
            # Not one call more fits before then, so nothing remains; whoever refused it, here or in the service.
            full = call.error
            call.limited_by(LimitStatus(full.rule, full.limit, 0, full.retry_after_s or 0.0))
        elif isinstance(call.error, OverloadedError) and call.charged is not None:
            # What we could not take is none of the caller's share: it will be asked again.
            await self._limiter.refund(call.charged)

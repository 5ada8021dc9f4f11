"""Counts failed authentications by peer, and delays peers that fail too often."""

from __future__ import annotations

from agent_service.errors import AuthenticationError, RateLimitError
from agent_service.limits.base import Charge, Limiter, Rule, Stage, Subject
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.peer import address

RULE = "auth_failures"


class AuthFailures(Interceptor[None]):
    """Replaces the error of a failed authentication by a RateLimitError, once its peer has reached the limit.

    A valid key always passes: behind a proxy or a mesh all callers have the same peer, and one broken client must not
    lock out the others (docs/adr/0008). `limiter` is used for nothing else; its tenants are peers.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def on_error(self, token: None, call: Call) -> None:
        if not isinstance(call.error, AuthenticationError):
            return
        try:
            await self._limiter.reserve(Charge(Subject(address(call.peer)), Stage.REQUEST, calls=1))
        except RateLimitError as full:
            message = f"{full.limit} calls from this address had no valid key; wait before the next try"
            retry_after_s = full.retry_after_s or 0.0
            call.fail(
                RateLimitError(
                    full.reason, message, rule=RULE, limit=full.limit, subject="peer", retry_after_s=retry_after_s
                )
            )


def auth_failures_rule(failures_max: int, window_s: float) -> Rule:
    """Return the rule of the limiter: `failures_max` failures of a peer in a window."""
    return Rule(RULE, calls_max=failures_max, window_s=window_s)

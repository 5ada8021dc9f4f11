"""Counts the calls that start work, by the rules that match by tenant alone."""

from __future__ import annotations

from agent_service.errors import OverloadedError
from agent_service.limits.base import Charge, Limiter, Reservation, Stage, Subject
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor


class RateLimit(Interceptor[Reservation | None]):
    """Reserves a call in the tenant's limits, and refunds it if the server could not accept the work."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def on_call(self, call: Call) -> Reservation | None:
        if not call.method.starts_work:
            return None
        reservation = await self._limiter.reserve(Charge(Subject(call.caller.tenant), Stage.REQUEST, calls=1))
        call.limited_by(reservation.status)
        return reservation

    async def on_error(self, token: Reservation | None, call: Call) -> None:
        if token is not None and isinstance(call.error, OverloadedError):
            # The caller got nothing for it, and will retry.
            await self._limiter.refund(token)

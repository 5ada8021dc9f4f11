"""Waiting for a limit, first come first served: a Limiter around any other, for the tasks of one process.

Knows neither rules nor windows. Who is refused stands in line at the counter that refused it; whoever would be charged
to that counter later, however little, stands behind, and nobody else does: a counter that has room for all has no line.
Who is at the head of a line asks again when it was told to, when a reservation of the same counter is closed, and once
a second, because room may come from where nobody here sees it: another process, a rule that was changed.

A place is kept until its holder got through, gave up or was canceled, and who was first is first in every line that it
comes to stand in; so there is always one who waits for nobody, and a large charge is not overtaken for ever by small
ones. Of several processes each has its own lines.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from operator import attrgetter

from agent_service.errors import RateLimitError
from agent_service.limits.base import Charge, Counter, Limiter, Reservation

ASK_AGAIN_S = 1.0

OnWait = Callable[[RateLimitError], None]

_number = attrgetter("number")


class _Waiter:
    """Who waits: its number in the order of arrival, where it stands, and what it was told last: by the limiter, or
    what those at the head of its lines were told.
    """

    __slots__ = ("counters", "fits_at", "lines", "number", "refusal", "woken")

    def __init__(self, number: int, counters: frozenset[Counter]) -> None:
        self.number = number
        self.counters = counters
        self.lines: set[Counter] = set()
        self.refusal: RateLimitError | None = None
        self.fits_at = 0.0
        self.woken = asyncio.Event()

    def told(self, refusal: RateLimitError | None, fits_at: float) -> None:
        self.refusal, self.fits_at = refusal, fits_at

    def failure(self) -> RateLimitError:
        """Its own error: others may have been told the same."""
        refusal = self.refusal
        assert refusal is not None, "who stands in a line was refused, or stands behind one who was"
        return RateLimitError(
            refusal.reason,
            refusal.message,
            rule=refusal.rule,
            limit=refusal.limit,
            subject=refusal.subject,
            retry_after_s=max(0.0, self.fits_at - _now()),
        )


class FairLimiter:
    """The limiter that it is made around, and `reserve_by`. Used from one event loop."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._lines: dict[Counter, list[_Waiter]] = {}
        self._numbers = count()

    async def reserve(self, charge: Charge) -> Reservation:
        """See `Limiter.reserve`. Asks past every line: for charges that nobody waits with."""
        return await self._limiter.reserve(charge)

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """See `Limiter.settle`."""
        await self._limiter.settle(reservation, tokens=tokens)
        self._closed(reservation)

    async def refund(self, reservation: Reservation) -> None:
        """See `Limiter.refund`."""
        await self._limiter.refund(reservation)
        self._closed(reservation)

    def counters(self, charge: Charge) -> frozenset[Counter]:
        """See `Limiter.counters`."""
        return self._limiter.counters(charge)

    def share(self, processes: int) -> None:
        """See `Limiter.share`."""
        self._limiter.share(processes)

    async def reserve_by(self, charge: Charge, until: float, on_wait: OnWait = lambda _: None) -> Reservation:
        """Reserve, waiting for a full limit until `until` by the loop's clock, behind those who waited before. A time
        that has passed waits not at all. `on_wait` is called before every wait with what stands in the way; what it
        raises is raised.

        Raises:
            RateLimitError: it does not fit by then, which is raised as soon as it is known; of the counter that it
                waited for. StateError: it can never fit.
        """
        if not self._lines:
            try:
                return await self._limiter.reserve(charge)
            except RateLimitError as full:
                if _now() + (full.retry_after_s or 0.0) >= until:
                    raise
        waiter = _Waiter(next(self._numbers), self._limiter.counters(charge))
        try:
            return await self._wait(charge, waiter, until, on_wait)
        finally:
            self._leave(waiter)

    async def _wait(self, charge: Charge, waiter: _Waiter, until: float, on_wait: OnWait) -> Reservation:
        while True:
            waiter.woken.clear()
            asks_at = until
            ahead = self._stand_behind(waiter)
            if ahead is not None:
                waiter.told(ahead.refusal, ahead.fits_at)
            else:
                try:
                    return await self._limiter.reserve(charge)
                except RateLimitError as full:
                    waiter.told(full, _now() + (full.retry_after_s or 0.0))
                    self._stand_in(waiter, (full.rule, full.subject))
                asks_at = min(waiter.fits_at, until, _now() + ASK_AGAIN_S)
            if waiter.fits_at >= until or _now() >= until:
                raise waiter.failure()
            on_wait(waiter.failure())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(asks_at):
                    await waiter.woken.wait()

    def _stand_behind(self, waiter: _Waiter) -> _Waiter | None:
        """Stand in every line of its counters in which somebody came before; of those at their heads, the one that
        waits longest.
        """
        ahead: _Waiter | None = None
        for counter in waiter.counters:
            line = self._lines.get(counter)
            if line and line[0].number < waiter.number:
                self._stand_in(waiter, counter)
                if ahead is None or ahead.fits_at < line[0].fits_at:
                    ahead = line[0]
        return ahead

    def _stand_in(self, waiter: _Waiter, counter: Counter) -> None:
        if counter not in waiter.lines:
            waiter.lines.add(counter)
            insort(self._lines.setdefault(counter, []), waiter, key=_number)

    def _leave(self, waiter: _Waiter) -> None:
        for counter in waiter.lines:
            line = self._lines[counter]
            was_first = line[0] is waiter
            line.remove(waiter)
            if not line:
                del self._lines[counter]
            elif was_first:
                line[0].woken.set()

    def _closed(self, reservation: Reservation) -> None:
        """There may be more room now."""
        if not self._lines:
            return
        for counter in self._limiter.counters(reservation.charge):
            if counter in self._lines:
                self._lines[counter][0].woken.set()


def _now() -> float:
    return asyncio.get_running_loop().time()

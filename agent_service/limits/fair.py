"""FIFO waiting for a limit: a Limiter that wraps any other, for the tasks of one process.

It depends on neither rules nor windows. A charge that is refused enters the queue of the counter that refused it. A
later charge of the same counter, however small, queues behind it; charges of other counters do not. A counter with room
for all has no queue. The head of a queue retries after its `retry_after_s`, when a reservation of the same counter is
closed, and once a second, because room may come from elsewhere: another process, or a changed rule.

A waiter keeps its place until it is charged, times out or is cancelled. Queues are ordered by arrival, the same order
in all of them, so at least one waiter is behind no other, and small charges cannot starve a large one. Each process has
its own queues.
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

RETRY_S = 1.0

OnWait = Callable[[RateLimitError], None]

_number = attrgetter("number")


class _Waiter:
    """A waiting charge: its number in the order of arrival, its queues, and the last refusal: its own, or that of the
    head of its queues.
    """

    __slots__ = ("counters", "fits_at", "number", "queues", "refusal", "woken")

    def __init__(self, number: int, counters: frozenset[Counter]) -> None:
        self.number = number
        self.counters = counters
        self.queues: set[Counter] = set()
        self.refusal: RateLimitError | None = None
        self.fits_at = 0.0
        self.woken = asyncio.Event()

    def refused(self, refusal: RateLimitError | None, fits_at: float) -> None:
        self.refusal, self.fits_at = refusal, fits_at

    def failure(self) -> RateLimitError:
        """Return an error of its own, because the last refusal may be shared by several waiters."""
        refusal = self.refusal
        assert refusal is not None, "a waiter was refused, or queues behind one that was"
        return RateLimitError(
            refusal.reason,
            refusal.message,
            rule=refusal.rule,
            limit=refusal.limit,
            subject=refusal.subject,
            retry_after_s=max(0.0, self.fits_at - _now()),
        )


class FairLimiter:
    """Wraps a limiter and adds `reserve_by`. Used from one event loop."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._queues: dict[Counter, list[_Waiter]] = {}
        self._numbers = count()

    async def reserve(self, charge: Charge) -> Reservation:
        """See `Limiter.reserve`. Ignores the queues: for charges that never wait."""
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
        """Reserve; where a limit is full, wait until `until` (by the loop's clock) behind earlier waiters. A time in
        the past does not wait. `on_wait` is called before every wait with the refusal; its exceptions pass through.

        Raises:
            RateLimitError: the charge does not fit by then; raised as soon as that is known, for the counter that it
                waited for. StateError: it can never fit.
        """
        if not self._queues:
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
            retry_at = until
            ahead = self._queue_behind(waiter)
            if ahead is not None:
                waiter.refused(ahead.refusal, ahead.fits_at)
            else:
                try:
                    return await self._limiter.reserve(charge)
                except RateLimitError as full:
                    waiter.refused(full, _now() + (full.retry_after_s or 0.0))
                    self._enter(waiter, (full.rule, full.subject))
                retry_at = min(waiter.fits_at, until, _now() + RETRY_S)
            if waiter.fits_at >= until or _now() >= until:
                raise waiter.failure()
            on_wait(waiter.failure())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(retry_at):
                    await waiter.woken.wait()

    def _queue_behind(self, waiter: _Waiter) -> _Waiter | None:
        """Enter every queue of its counters that has an earlier waiter. Return the head that waits longest; None if
        there is no earlier waiter.
        """
        ahead: _Waiter | None = None
        for counter in waiter.counters:
            queue = self._queues.get(counter)
            if queue and queue[0].number < waiter.number:
                self._enter(waiter, counter)
                if ahead is None or ahead.fits_at < queue[0].fits_at:
                    ahead = queue[0]
        return ahead

    def _enter(self, waiter: _Waiter, counter: Counter) -> None:
        if counter not in waiter.queues:
            waiter.queues.add(counter)
            insort(self._queues.setdefault(counter, []), waiter, key=_number)

    def _leave(self, waiter: _Waiter) -> None:
        for counter in waiter.queues:
            queue = self._queues[counter]
            was_first = queue[0] is waiter
            queue.remove(waiter)
            if not queue:
                del self._queues[counter]
            elif was_first:
                queue[0].woken.set()

    def _closed(self, reservation: Reservation) -> None:
        """Wake the heads of the queues that the closed reservation may have made room in."""
        if not self._queues:
            return
        for counter in self._limiter.counters(reservation.charge):
            if counter in self._queues:
                self._queues[counter][0].woken.set()


def _now() -> float:
    return asyncio.get_running_loop().time()

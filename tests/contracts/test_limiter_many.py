"""Every limiter with many charges in a window, where it may merge old ones, against adding them all up.

What a charge may count too long is a sixtieth of the window; what it may count too short is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent_service.errors import RateLimitError
from agent_service.limits.base import Charge, Limiter, Reservation, Rule, Stage
from tests.contracts.limiters import ACME, HARNESSES, Harness

WINDOW_S = 60.0
LATE_S = WINDOW_S / 60
# More than a limiter is asked to keep apart.
MANY = 1000


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest) -> Harness:
    made: Harness = request.param()
    return made


def tokens(amount: int) -> Charge:
    return Charge(ACME, Stage.ALL, tokens=amount)


@dataclass(slots=True)
class Charged:
    at: float
    amount: int
    reservation: Reservation
    open: bool = True


@dataclass
class Model:
    """Adds up every charge, as if each stayed `late_s` longer than the window."""

    limit: int
    charged: list[Charged] = field(default_factory=list)

    def used(self, now: float, late_s: float) -> int:
        return sum(one.amount for one in self.charged if one.at + WINDOW_S + late_s > now)

    def fits_at(self, amount: int, now: float, late_s: float) -> float:
        surplus, at = self.used(now, late_s) + amount - self.limit, now
        for one in self.charged:
            if surplus <= 0:
                break
            if one.at + WINDOW_S + late_s > now:
                surplus, at = surplus - one.amount, one.at + WINDOW_S + late_s
        return at


BURSTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1 / 64, 1 / 16, 1 / 8]),  # seconds between its charges
        st.integers(50, 300),  # charges
        st.integers(1, 3),  # tokens of each
        st.sampled_from(["settle", "refund", ""]),  # what becomes of every third of them, or of older ones
        st.sampled_from([0, 10, 100, 300, 1000]),  # how much older
        st.sampled_from([0.0, 0.0, 0.5, 20.0, 58.0, 3600.0]),  # seconds until the next
    ),
    min_size=4,
    max_size=8,
)


@given(limit=st.integers(800, 1600), bursts=BURSTS)
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # made smaller, an example no longer has anything to merge
    suppress_health_check=list(HealthCheck),
)
async def test_a_window_is_never_above_its_maximum_and_refuses_a_sixtieth_too_long_at_most(
    harness: Harness, limit: int, bursts: list[tuple[float, int, int, str, int, float]]
) -> None:
    limiter, model = harness.limiter(Rule("default", tokens_max=limit, window_s=WINDOW_S)), Model(limit)
    for gap_s, count, amount, close, older, pause_s in bursts:
        for number in range(count):
            harness.advance(gap_s)
            await charge_both(harness, limiter, model, amount)
            if close and number % 3 == 0 and len(model.charged) > older:
                await close_both(limiter, model.charged[-1 - older], number % 5 if close == "settle" else None)
        harness.advance(pause_s)


async def charge_both(harness: Harness, limiter: Limiter, model: Model, amount: int) -> None:
    now = harness.now
    try:
        reservation = await limiter.reserve(tokens(amount))
    except RateLimitError as full:
        assert model.used(now, LATE_S) + amount > model.limit, "refused, though it would fit a sixtieth later"
        told = now + (full.retry_after_s or 0)
        assert model.fits_at(amount, now, 0) <= told <= model.fits_at(amount, now, LATE_S)
    else:
        assert model.used(now, 0) + amount <= model.limit, "admitted above the limit"
        model.charged.append(Charged(now, amount, reservation))


async def close_both(limiter: Limiter, one: Charged, used: int | None) -> None:
    if used is None:
        await limiter.refund(one.reservation)
    else:
        await limiter.settle(one.reservation, tokens=used)
    if one.open:
        one.open = False
        one.amount = used or 0


async def test_what_is_settled_long_after_many_others_came_is_freed_to_the_token(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=MANY * 10, window_s=WINDOW_S))
    reservations = []
    for _ in range(MANY):
        harness.advance(WINDOW_S / MANY / 2)
        reservations.append(await limiter.reserve(tokens(10)))
    for reservation in reservations[::2]:
        await limiter.settle(reservation, tokens=3)
    for reservation in reservations[1::2]:
        await limiter.refund(reservation)
    freed = MANY // 2 * 7 + MANY // 2 * 10
    await limiter.reserve(tokens(freed))
    with pytest.raises(RateLimitError):
        await limiter.reserve(tokens(1))
    harness.advance(WINDOW_S + LATE_S)
    await limiter.reserve(tokens(MANY * 10))
    with pytest.raises(RateLimitError):
        await limiter.reserve(tokens(1))


async def test_many_charges_of_one_instant_leave_at_one_instant_whatever_they_were_settled_at(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=MANY * 10, window_s=WINDOW_S))
    reservations = [await limiter.reserve(tokens(10)) for _ in range(MANY)]
    harness.advance(1.0)
    await limiter.settle(reservations[0], tokens=5)
    await limiter.reserve(tokens(5))
    for reservation in reservations[1:]:
        await limiter.settle(reservation, tokens=7)
    harness.advance(WINDOW_S - 1.0)
    await limiter.reserve(tokens(MANY * 10 - 5))
    with pytest.raises(RateLimitError):
        await limiter.reserve(tokens(1))


async def test_many_charges_leave_by_sixtieths_and_all_of_them_leave(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", calls_max=MANY, window_s=WINDOW_S))
    one = Charge(ACME, Stage.ALL, calls=1)
    for _ in range(MANY):
        await limiter.reserve(one)
        harness.advance(WINDOW_S / MANY)
    free = 0
    for second in range(1, 61):
        harness.advance(1.0)
        while True:
            try:
                await limiter.reserve(one)
            except RateLimitError:
                break
            free += 1
        assert MANY * (second - 1) / 60 - 1 <= free <= MANY * second / 60 + 1

"""Every limiter against the plainest one that there is: it adds up every charge that there ever was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent_service.errors import StateError
from agent_service.limits.base import Charge, Limiter, Reservation, Rule, Stage, Subject
from tests.contracts.limiters import HAIR_S, HARNESSES, Harness, call, refused


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest) -> Harness:
    made: Harness = request.param()
    return made


@dataclass(slots=True)
class Charged:
    at: float
    subject: Subject
    stage: Stage
    amounts: dict[str, int]
    reservation: Reservation
    open: bool = True


def maxima(rule: Rule) -> dict[str, int]:
    bounds = {"calls": rule.calls_max, "model_calls": rule.model_calls_max, "tokens": rule.tokens_max}
    return {unit: bound for unit, bound in bounds.items() if bound is not None}


def amounts(charge: Charge) -> dict[str, int]:
    return {"calls": charge.calls, "model_calls": charge.model_calls, "tokens": charge.tokens}


class Model:
    """Adds up every charge that there ever was, each time it is asked."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.charged: list[Charged] = []

    def counter(self, rule: Rule, subject: Subject, stage: Stage) -> tuple[str, ...] | None:
        if stage not in (Stage.ALL, rule.stage):
            return None
        for what in ("tenant", "agent", "model"):
            if getattr(rule, what) not in ("*", getattr(subject, what)):
                return None
        return tuple(getattr(subject, what) for what in sorted(rule.per))

    def used(self, rule: Rule, unit: str, counter: tuple[str, ...], at: float) -> int:
        return sum(
            charged.amounts[unit]
            for charged in self.charged
            if charged.at + rule.window_s > at and self.counter(rule, charged.subject, charged.stage) == counter
        )

    def bounds(self, charge: Charge) -> Iterator[tuple[Rule, str, int, tuple[str, ...]]]:
        for unit, amount in amounts(charge).items():
            for rule in self.rules:
                counter = self.counter(rule, charge.subject, charge.stage)
                if amount and counter is not None and unit in maxima(rule):
                    yield rule, unit, amount, counter

    def blocking(self, charge: Charge, at: float) -> set[str]:
        return {
            rule.name
            for rule, unit, amount, counter in self.bounds(charge)
            if self.used(rule, unit, counter, at) + amount > maxima(rule)[unit]
        }

    def never(self, charge: Charge) -> bool:
        return any(amount > maxima(rule)[unit] for rule, unit, amount, _ in self.bounds(charge))

    def fits_at(self, charge: Charge, now: float) -> float:
        instants = {charged.at + rule.window_s for charged in self.charged for rule in self.rules}
        return min(at for at in {now, *instants} if at >= now and not self.blocking(charge, at))

    def remaining(self, charge: Charge, at: float) -> int | None:
        left: dict[str, list[int]] = {}
        for rule, unit, _, counter in self.bounds(charge):
            left.setdefault(unit, []).append(maxima(rule)[unit] - self.used(rule, unit, counter, at))
        for unit in ("calls", "tokens", "model_calls"):
            if unit in left:
                return min(left[unit])
        return None


BOUND = st.none() | st.integers(1, 6)
RULES = st.lists(
    st.builds(
        Rule,
        name=st.uuids().map(str),
        tenant=st.sampled_from(["*", "*", "t1"]),
        agent=st.sampled_from(["*", "*", "a1"]),
        model=st.sampled_from(["*", "*", "*", "m1"]),
        per=st.sets(st.sampled_from(["tenant", "agent", "model"])).map(frozenset),
        calls_max=BOUND,
        model_calls_max=BOUND,
        tokens_max=st.none() | st.integers(1, 12),
        window_s=st.sampled_from([0.5, 2.0, 5.0]),
    ),
    min_size=1,
    max_size=3,
)
CHARGES = st.builds(
    Charge,
    subject=st.builds(
        Subject, st.sampled_from(["t1", "t2"]), st.sampled_from(["a1", "a2"]), st.sampled_from(["m1", "m2"])
    ),
    stage=st.sampled_from([Stage.ALL, Stage.ALL, Stage.REQUEST, Stage.TASK]),
    calls=st.integers(0, 2),
    model_calls=st.integers(0, 2),
    tokens=st.integers(0, 8),
)
# Eighths of a second, so that the arithmetic of both sides is exact.
STEPS = st.lists(
    st.tuples(
        st.integers(0, 8).map(lambda eighths: eighths / 8),
        CHARGES | st.tuples(st.sampled_from(["settle", "refund"]), st.integers(0, 30), st.integers(0, 12)),
    ),
    max_size=40,
)


@given(rules=RULES, steps=STEPS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_history_is_as_if_everything_were_added_up(
    harness: Harness, rules: list[Rule], steps: list[tuple[float, Charge | tuple[str, int, int]]]
) -> None:
    limiter, model = harness.limiter(*rules), Model(rules)
    for passed_s, step in steps:
        harness.advance(passed_s)
        if isinstance(step, Charge):
            await charge_both(harness, limiter, model, step)
        elif model.charged:
            what, index, tokens = step
            await close_both(limiter, model.charged[index % len(model.charged)], tokens if what == "settle" else None)


async def charge_both(harness: Harness, limiter: Limiter, model: Model, charge: Charge) -> None:
    if model.never(charge):
        with pytest.raises(StateError):
            await limiter.reserve(charge)
        return
    fits_at = model.fits_at(charge, harness.now)
    if fits_at > harness.now:
        error = await refused(limiter, charge)
        assert harness.now + (error.retry_after_s or 0) == fits_at
        assert error.rule in model.blocking(charge, fits_at - HAIR_S)
        harness.advance(fits_at - harness.now - HAIR_S)
        await refused(limiter, charge)
        harness.advance(HAIR_S)
    reservation = await limiter.reserve(charge)
    model.charged.append(Charged(harness.now, charge.subject, charge.stage, amounts(charge), reservation))
    status = reservation.status
    assert (status.remaining if status else None) == model.remaining(charge, harness.now)


async def close_both(limiter: Limiter, charged: Charged, tokens: int | None) -> None:
    if tokens is None:
        await limiter.refund(charged.reservation)
    else:
        await limiter.settle(charged.reservation, tokens=tokens)
    if charged.open:
        charged.open = False
        charged.amounts = dict.fromkeys(charged.amounts, 0) if tokens is None else {**charged.amounts, "tokens": tokens}


@given(
    start_s=st.floats(0, 1e9),
    gap_s=st.floats(0, 59),
    window_s=st.floats(60, 1e6),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(start_s=0.5712326942175455, gap_s=1.125816437617339, window_s=7.3)  # both: now + (end - now) < end
@example(start_s=57.93461980362942, gap_s=1197.5403589716427, window_s=3600.0)
async def test_the_wait_is_enough_and_not_a_hair_too_long_in_floating_point(
    harness: Harness, start_s: float, gap_s: float, window_s: float
) -> None:
    limiter = harness.limiter(Rule("default", calls_max=1, window_s=window_s))
    harness.now = start_s
    status = (await limiter.reserve(call())).status
    assert status is not None
    assert status.reset_s == window_s  # or rounding it up would tell a second more
    harness.advance(gap_s)
    wait_s = (await refused(limiter, call())).retry_after_s
    assert wait_s is not None
    before = harness.now
    harness.now = before + wait_s * (1 - 1e-6)
    await refused(limiter, call())
    harness.now = before + wait_s
    await limiter.reserve(call())

"""Waiting for a limit: in the order of arrival, at the counter that is full, and nowhere else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from agent_service.errors import RateLimitError
from agent_service.limits.base import Charge, Reservation, Rule, Stage, Subject
from agent_service.limits.fair import FairLimiter
from agent_service.limits.memory import MemoryLimiter, MemoryReservation

FOR_EVER = 1e9


class SkippingLoop(asyncio.SelectorEventLoop):
    """Time passes at once where nobody has anything else to do."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s

    def _run_once(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        ready: Any = self._ready  # type: ignore[attr-defined]
        if scheduled and not ready:
            self.skipped_s += max(0.0, scheduled[0].when() - self.time())
        super()._run_once()  # type: ignore[misc]


class Line:
    """A limiter, and who got through it, in order, with when (in whole seconds from the start)."""

    def __init__(self, *rules: Rule, limiter: Callable[[MemoryLimiter], MemoryLimiter] = lambda made: made) -> None:
        loop = asyncio.get_running_loop()
        self.memory = limiter(MemoryLimiter(rules, clock=loop.time))
        self.fair = FairLimiter(self.memory)
        self.through: list[tuple[str, int]] = []
        self.began = loop.time()

    def asks(
        self, name: str, tokens: int, tenant: str = "acme", agent: str = "a", until_s: float = FOR_EVER
    ) -> asyncio.Task[Reservation]:
        charge = Charge(Subject(tenant, agent, "m"), Stage.ALL, model_calls=1, tokens=tokens)

        async def ask() -> Reservation:
            reservation = await self.fair.reserve_by(charge, self.began + until_s)
            self.through.append((name, self.now_s))
            return reservation

        return asyncio.create_task(ask())

    @property
    def now_s(self) -> int:
        return round(asyncio.get_running_loop().time() - self.began)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.through]


async def turns() -> None:
    """Let everybody do what they can without waiting."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def in_skipping_loop() -> None:
        with asyncio.Runner(loop_factory=SkippingLoop) as runner:
            runner.run(test())

    in_skipping_loop.__name__ = test.__name__
    return in_skipping_loop


async def failure(asked: Awaitable[Reservation]) -> RateLimitError:
    with pytest.raises(RateLimitError) as caught:
        await asked
    return caught.value


@run
async def test_who_waits_gets_through_in_the_order_of_arrival_whatever_it_asks_for() -> None:
    line = Line(Rule("default", tokens_max=10))
    await line.asks("full", 10)
    await asyncio.gather(*(line.asks(name, tokens) for name, tokens in (("big", 10), ("small", 1), ("mid", 5))))
    assert line.through == [("full", 0), ("big", 60), ("small", 120), ("mid", 120)]


@run
async def test_a_small_charge_that_would_fit_does_not_overtake_a_large_one_of_its_counter() -> None:
    line = Line(Rule("default", tokens_max=10))
    await line.asks("half", 5)
    asked = [line.asks("big", 8)]
    for number in range(20):
        await turns()
        asked.append(line.asks(f"small-{number}", 1))
    await asyncio.gather(*asked)
    assert line.names[:4] == ["half", "big", "small-0", "small-1"]


@run
async def test_nobody_waits_for_the_line_of_another_counter() -> None:
    line = Line(
        Rule("each", tokens_max=10),
        Rule("all", per=frozenset(), tokens_max=1000),
        Rule("agents", per=frozenset({"agent"}), tokens_max=500),
    )
    await line.asks("full", 10)
    waiting = line.asks("big", 10)
    await turns()
    await line.asks("other tenant", 10, tenant="globex")
    assert line.through == [("full", 0), ("other tenant", 0)]
    await waiting


@run
async def test_who_came_first_is_first_at_every_counter_that_it_comes_to_wait_for() -> None:
    line = Line(Rule("tenant", tokens_max=10), Rule("agent", per=frozenset({"agent"}), tokens_max=10, window_s=90))
    await line.asks("tenant full", 10, agent="other")
    old = line.asks("old", 10)
    await turns()
    await asyncio.sleep(30)
    await line.asks("agent full", 10, tenant="globex")  # so `old` finds the agent full when the tenant is not
    await asyncio.sleep(10)
    young = [line.asks("young", 1, tenant="third"), line.asks("sibling", 1, agent="other")]
    await asyncio.gather(old, *young)
    assert line.through[2:] == [("old", 120), ("sibling", 180), ("young", 210)]


@run
async def test_a_head_that_is_canceled_makes_way_at_once() -> None:
    line = Line(Rule("default", tokens_max=10))
    await line.asks("half", 5)
    big, small = line.asks("big", 8), line.asks("small", 5)
    await turns()
    assert line.names == ["half"]
    big.cancel()
    await small
    assert line.through == [("half", 0), ("small", 0)]


@run
async def test_who_is_canceled_in_the_middle_of_a_line_leaves_no_gap() -> None:
    line = Line(Rule("default", tokens_max=10))
    await line.asks("full", 10)
    first, second, third = (line.asks(name, 10) for name in ("first", "second", "third"))
    await turns()
    second.cancel()
    await asyncio.gather(first, third)
    assert line.through == [("full", 0), ("first", 60), ("third", 120)]
    await asyncio.sleep(60)
    await line.asks("late", 10)
    assert line.through[-1] == ("late", 180)


@run
async def test_a_reservation_that_is_closed_makes_room_before_the_time_that_was_told() -> None:
    line = Line(Rule("default", tokens_max=10))
    first = await line.asks("first", 6)
    second = line.asks("second", 6)
    third = line.asks("third", 4)
    await asyncio.sleep(5.4)
    await line.fair.settle(first, tokens=1)
    reservation = await second
    await line.fair.refund(reservation)
    await third
    assert line.through == [("first", 0), ("second", 5), ("third", 5)]


@run
async def test_who_cannot_get_through_in_time_fails_at_once_with_the_rule_that_it_waits_for() -> None:
    line = Line(Rule("default", tokens_max=10), Rule("hour", tokens_max=1000, window_s=3600))
    await line.asks("full", 10)
    error = await failure(line.asks("hasty", 1, until_s=59))
    assert (error.rule, error.subject, line.now_s) == ("default", "tenant:acme", 0)
    waiting = line.asks("patient", 1, until_s=61)
    await waiting
    assert line.now_s == 60


@run
async def test_who_stands_behind_one_that_waits_longer_than_it_can_fails_at_once_too() -> None:
    line = Line(Rule("default", tokens_max=10))
    await line.asks("half", 5)
    big = line.asks("big", 8)
    await turns()
    error = await failure(line.asks("hasty", 1, until_s=30))
    assert (error.rule, line.now_s, round(error.retry_after_s or 0)) == ("default", 0, 60)
    assert line.names == ["half"]
    await big


@run
async def test_who_still_stands_in_line_when_its_time_is_over_fails_with_the_rule() -> None:
    line = Line(Rule("default", tokens_max=10))
    first = await line.asks("first", 10)
    big = line.asks("big", 10)
    behind = line.asks("behind", 1, until_s=70)
    await asyncio.sleep(1)
    await line.fair.settle(first, tokens=11)  # nothing that anybody was told changes
    line.memory.replay(Charge(Subject("acme", "a", "m"), Stage.ALL, tokens=10), 0.0)  # but now big waits until 61
    await asyncio.sleep(50)
    line.memory.replay(Charge(Subject("acme", "a", "m"), Stage.ALL, tokens=10), 0.0)  # and now until 111
    error = await failure(behind)
    assert (error.rule, line.now_s) == ("default", 70)
    await big
    assert line.through == [("first", 0), ("big", 111)]


@run
async def test_a_time_that_has_passed_waits_not_at_all_and_overtakes_nobody() -> None:
    line = Line(Rule("default", tokens_max=10))
    await line.asks("half", 5, until_s=0)
    big = line.asks("big", 8)
    await turns()
    assert (await failure(line.asks("fails", 1, until_s=0))).rule == "default"
    assert line.now_s == 0
    await big


@run
async def test_room_that_comes_from_elsewhere_is_found_within_a_second() -> None:
    line = Line(Rule("default", tokens_max=10, window_s=3600))
    await line.asks("full", 10)
    waiting = line.asks("waiting", 10)
    await asyncio.sleep(5)
    line.memory.reconfigure([Rule("default", tokens_max=20, window_s=3600)])
    await waiting
    assert line.through[-1][1] <= 6


class Suspending(MemoryLimiter):
    """Asks as one does that must ask another machine: others run meanwhile."""

    async def reserve(self, charge: Charge) -> MemoryReservation:
        await asyncio.sleep(0.01)
        return await super().reserve(charge)


@run
async def test_lines_hold_also_where_asking_takes_time_and_a_canceled_question_charges_nothing() -> None:
    line = Line(Rule("default", tokens_max=10), limiter=lambda _: Suspending([Rule("default", tokens_max=10)], _time()))
    await line.asks("half", 5)
    big = line.asks("big", 8)
    await asyncio.sleep(0.1)
    small = [line.asks(f"small-{number}", 2) for number in range(3)]
    await asyncio.sleep(59.895)  # big asks again soon
    big.cancel()
    await asyncio.gather(*small)
    assert line.names == ["half", "small-0", "small-1", "small-2"]


def _time() -> Callable[[], float]:
    return asyncio.get_running_loop().time


@run
async def test_of_many_that_come_and_go_all_who_stay_get_through_in_the_order_of_their_counter() -> None:
    order = random.Random(7)  # the same every time
    line = Line(Rule("each", tokens_max=20, window_s=5), Rule("all", per=frozenset(), tokens_max=50, window_s=7))
    asked: list[tuple[str, str, asyncio.Task[Reservation]]] = []
    for number in range(300):
        tenant = f"t{order.randrange(4)}"
        asked.append((f"{number}", tenant, line.asks(f"{number}", order.randint(1, 20), tenant)))
        if order.random() < 0.2:
            asked[order.randrange(len(asked))][2].cancel()
        if order.random() < 0.3:
            await asyncio.sleep(order.random())
    done = await asyncio.gather(*(task for _, _, task in asked), return_exceptions=True)
    stayed = [name for (name, _, _), result in zip(asked, done, strict=True) if isinstance(result, MemoryReservation)]
    assert len(stayed) > 200
    assert sorted(line.names, key=int) == stayed
    for tenant in {tenant for _, tenant, _ in asked}:
        of_tenant = {name for name, whose, _ in asked if whose == tenant}
        through = [int(name) for name in line.names if name in of_tenant]
        assert through == sorted(through)

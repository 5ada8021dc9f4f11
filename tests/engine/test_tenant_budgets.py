"""Budgets over time: periods, restarts, other processes, a store that fails; never above the bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_service.engine.tenant_budgets import (
    REFRESH_S,
    Budget,
    Hold,
    Period,
    Spending,
    TenantBudgets,
    period_around,
)
from agent_service.errors import OverloadedError, RateLimitError
from agent_service.journal.usage import Amounts, UsageKey
from agent_service.store.usage import Tally, UsageQuery, UsageRow, summed
from agent_service.v1.error_reason_pb2 import ERROR_REASON_STORE_UNAVAILABLE

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


@dataclass
class World:
    """A clock, and a ledger that holds what was stored."""

    now: float = NOON
    used: Tally = field(default_factory=Tally)
    failures: int = 0
    asked: int = 0

    def clock(self) -> float:
        return self.now

    def store(self, tokens: int, cost_nanos: int = 0, *, tenant: str = "acme") -> None:
        key = UsageKey(tenant, int(self.now) // 3600, "assistant", "smart")
        self.used.add(key, Amounts(input_tokens=tokens, cost_nanos=cost_nanos))

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "gone")
        return summed(self.used.rows(), query)

    def budgets(self, *budgets: Budget) -> TenantBudgets:
        return TenantBudgets(self, budgets, self.clock, retry_s=0)


@pytest.fixture
def world() -> World:
    return World()


def daily(tokens_max: int | None = 100, cost_nanos_max: int | None = None) -> Budget:
    return Budget("daily", "day", tokens_max=tokens_max, cost_nanos_max=cost_nanos_max)


async def refused(budgets: TenantBudgets, tokens: int, cost_nanos: int = 0) -> RateLimitError:
    with pytest.raises(RateLimitError) as error:
        await budgets.reserve("acme", Spending(tokens, cost_nanos))
    return error.value


@pytest.mark.parametrize(
    ("at", "period", "starts", "ends"),
    [
        ("2026-02-28T00:00:00", "day", "2026-02-28", "2026-03-01"),
        ("2026-02-28T23:59:59", "day", "2026-02-28", "2026-03-01"),
        ("2028-02-29T23:59:59", "month", "2028-02-01", "2028-03-01"),
        ("2026-01-31T12:00:00", "month", "2026-01-01", "2026-02-01"),
        ("2026-12-31T23:59:59", "month", "2026-12-01", "2027-01-01"),
    ],
)
def test_periods_are_those_of_the_calendar(at: str, period: Period, starts: str, ends: str) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
    expected = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in (starts, ends)]
    assert list(period_around(now, period)) == expected


async def test_what_is_stored_of_the_period_counts_and_what_was_before_does_not(world: World) -> None:
    world.now = NOON - DAY
    world.store(90)
    world.now = NOON
    world.store(60)
    budgets = world.budgets(daily())

    await refused(budgets, 41)
    await budgets.reserve("acme", Spending(40, 0))


async def test_a_refusal_says_when_the_period_ends(world: World) -> None:
    error = await refused(world.budgets(daily()), 101)
    assert error.retry_after_s == DAY / 2
    assert "until 2026-03-01T00:00:00+00:00" in error.message
    world.now += DAY / 2
    await refused(world.budgets(daily()), 101)


async def test_of_several_budgets_the_one_that_ends_last_is_told(world: World) -> None:
    world.now = datetime(2026, 2, 10, tzinfo=UTC).timestamp()
    budgets = world.budgets(daily(10), Budget("monthly", "month", tokens_max=50))
    assert (await refused(budgets, 60)).rule == "monthly"
    assert (await refused(budgets, 30)).rule == "daily"


async def test_none_is_charged_where_one_refuses(world: World) -> None:
    budgets = world.budgets(daily(100), Budget("small", "day", tokens_max=10))
    await refused(budgets, 50)
    for _ in range(10):
        await budgets.reserve("acme", Spending(1, 0))
    await refused(budgets, 1)


async def test_tokens_and_cost_are_bounded_each_for_itself(world: World) -> None:
    budgets = world.budgets(daily(None, 10))
    await budgets.reserve("acme", Spending(10**9, 10))
    assert "cost of at most 0.00000001" in (await refused(budgets, 1, 1)).message


async def test_what_is_settled_frees_the_rest_and_what_is_released_all(world: World) -> None:
    budgets = world.budgets(daily())
    first = await budgets.reserve("acme", Spending(60, 0))
    second = await budgets.reserve("acme", Spending(40, 0))
    budgets.settle(first, Spending(10, 0))
    budgets.release(second)
    budgets.release(second)
    budgets.settle(first, Spending(50, 0))
    await refused(budgets, 91)
    await budgets.reserve("acme", Spending(90, 0))


async def test_what_is_under_way_when_a_period_ends_counts_in_the_next(world: World) -> None:
    budgets = world.budgets(daily())
    hold = await budgets.reserve("acme", Spending(60, 0))
    world.now += DAY
    await refused(budgets, 41)
    budgets.settle(hold, Spending(30, 0))
    await refused(budgets, 71)
    await budgets.reserve("acme", Spending(70, 0))


async def test_what_ends_in_a_new_period_that_nobody_has_asked_about_yet_counts_there(world: World) -> None:
    budgets = world.budgets(daily())
    hold = await budgets.reserve("acme", Spending(60, 0))
    world.now += DAY
    budgets.settle(hold, Spending(30, 0))
    await refused(budgets, 71)
    await budgets.reserve("acme", Spending(70, 0))


async def test_what_is_spent_and_not_stored_yet_counts(world: World) -> None:
    budgets = world.budgets(daily())
    for tokens in (20, 40):
        budgets.settle(await budgets.reserve("acme", Spending(tokens, 0)), Spending(tokens, 0))
    world.store(20)
    world.now += REFRESH_S
    await refused(budgets, 41)


async def test_a_new_period_begins_with_what_is_stored_of_it(world: World) -> None:
    budgets = world.budgets(daily())
    budgets.settle(await budgets.reserve("acme", Spending(100, 0)), Spending(100, 0))
    await refused(budgets, 1)
    world.now += DAY
    world.store(20)
    await refused(budgets, 81)
    await budgets.reserve("acme", Spending(80, 0))


async def test_what_other_processes_use_is_seen_a_little_later_and_our_own_never_twice(world: World) -> None:
    budgets = world.budgets(daily())
    budgets.settle(await budgets.reserve("acme", Spending(10, 0)), Spending(10, 0))
    world.store(10)
    world.now += REFRESH_S
    await budgets.admit("acme")
    await refused(budgets, 91)

    world.store(50)  # somebody else's
    world.now += REFRESH_S
    await refused(budgets, 41)
    await budgets.reserve("acme", Spending(40, 0))


async def test_the_store_is_asked_once_for_many_who_ask_at_once(world: World) -> None:
    budgets = world.budgets(daily(1000))
    await asyncio.gather(*(budgets.reserve("acme", Spending(1, 0)) for _ in range(50)))
    assert world.asked == 1


async def test_a_running_task_waits_for_its_store_and_a_new_one_is_refused(world: World) -> None:
    budgets = world.budgets(daily())
    world.failures = 3
    with pytest.raises(OverloadedError):
        await budgets.admit("acme")
    await budgets.reserve("acme", Spending(100, 0))
    assert world.failures == 0


async def test_a_store_that_goes_away_later_leaves_what_is_known(world: World) -> None:
    budgets = world.budgets(daily())
    await budgets.reserve("acme", Spending(90, 0))
    world.failures = 1
    world.now += REFRESH_S
    await refused(budgets, 11)
    await budgets.reserve("acme", Spending(10, 0))


async def test_tenants_that_have_gone_quiet_are_forgotten_and_found_again_in_the_store(world: World) -> None:
    budgets = world.budgets(daily())
    for n in range(500):
        budgets.settle(await budgets.reserve(f"t{n}", Spending(100, 0)), Spending(100, 0))
        world.store(100, tenant=f"t{n}")
        world.now += 1.0
    assert len(budgets._counters) < 100
    with pytest.raises(RateLimitError):
        await budgets.admit("t0")


async def test_other_budgets_can_be_swapped_in(world: World) -> None:
    budgets = world.budgets(daily())
    held = await budgets.reserve("acme", Spending(90, 0))
    budgets.reconfigure([daily(), Budget("small", "day", tokens_max=5)])
    assert (await refused(budgets, 6)).rule == "small"
    budgets.reconfigure([daily()])
    await refused(budgets, 11)
    budgets.settle(held, Spending(0, 0))
    budgets.reconfigure([])
    await budgets.reserve("acme", Spending(10**9, 0))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "release", "hour", "restart", "stored"]),
        st.integers(0, 60),
        st.integers(0, 9),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=150, deadline=None)
async def test_no_history_takes_a_period_above_its_bound(steps: list[tuple[str, int, int]]) -> None:
    """As long as nobody uses more than was reserved; and nothing is refused that would have fitted."""
    world = World()
    budgets = world.budgets(daily(100))
    holds: list[Hold] = []
    unstored: list[int] = []
    used: dict[int, int] = {}
    for what, tokens, which in steps:
        day = int(world.now // DAY)
        if what == "reserve":
            open_ = sum(hold.amount.tokens for hold in holds)
            if used.get(day, 0) + open_ + tokens <= 100:
                holds.append(await budgets.reserve("acme", Spending(tokens, 0)))
            else:
                await refused(budgets, tokens)
        elif what in ("hour", "stored", "restart"):
            # What is spent is stored within milliseconds.
            for amount in unstored:
                world.store(amount)
            unstored.clear()
            world.now += 3600 * which if what == "hour" else 0
            if what == "restart":
                budgets, holds = world.budgets(daily(100)), []
        elif holds and what in ("settle", "release"):
            hold = holds.pop(which % len(holds))
            if what == "release":
                budgets.release(hold)
                continue
            spent = min(tokens, hold.amount.tokens)
            budgets.settle(hold, Spending(spent, 0))
            used[day] = used.get(day, 0) + spent
            unstored.append(spent)
    assert all(amount <= 100 for amount in used.values())


async def test_how_much_of_a_budget_is_used_is_that_of_the_tenant_with_the_most(world: World) -> None:
    budgets = world.budgets(daily(tokens_max=100, cost_nanos_max=1000))
    (share,) = budgets.used.values()
    assert share() == 0.0
    hold = await budgets.reserve("acme", Spending(20, 900))
    await budgets.reserve("globex", Spending(50, 0))
    assert share() == 0.9
    budgets.release(hold)
    assert share() == 0.5
    world.now += DAY
    assert share() == 0.0, "of the period that is over nothing is shown"


class Interrupted(str):
    """A tenant's name. When its hash is taken, another tenant comes once, as it may where another thread reads."""

    comes: Callable[[], None] | None = None

    def __hash__(self) -> int:
        if comes := self.comes:
            self.comes = None
            comes()
        return str.__hash__(self)


async def test_how_much_is_used_can_be_read_while_another_tenant_comes(world: World) -> None:
    budgets = world.budgets(daily())
    tenant = Interrupted("acme")
    await budgets.reserve(tenant, Spending(30, 0))

    def comes() -> None:
        admitted = budgets.admit("globex")
        admitted.send(None)
        admitted.close()

    tenant.comes = comes
    (share,) = budgets.used.values()
    assert share() == 0.3

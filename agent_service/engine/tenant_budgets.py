"""Budgets of tenants: bounds on tokens and cost in a calendar day or month.

A counter is the sum of the store's usage in the period and of the reservations of this process that are not settled. So
no request is made that could exceed the bound: exactly so within one process, however many tasks run at once. Usage of
other processes is read from the store every REFRESH_S, so several processes together may exceed a bound by what they
reserve in that time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from agent_service.engine.timing import TIMING
from agent_service.errors import OverloadedError, RateLimitError
from agent_service.journal.usage import HOUR_S
from agent_service.store.base import UsageLedger
from agent_service.store.usage import UsageQuery
from agent_service.text.amounts import money
from agent_service.v1.error_reason_pb2 import ERROR_REASON_BUDGET_EXHAUSTED

REFRESH_S = 10.0
# A counter that was not used for this long is dropped: by then the store has all its usage.
IDLE_S = 60.0

Period: TypeAlias = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget. `tenant` is a name to match, `*` any; with `per_tenant` each matching tenant has its own counter.
    Periods are calendar days or months in UTC. A maximum of None does not bound. No two budgets share a name.
    """

    name: str
    period: Period = "month"
    tenant: str = "*"
    per_tenant: bool = True
    tokens_max: int | None = None
    cost_nanos_max: int | None = None


class Spending(NamedTuple):
    """Tokens (the sum of input and output) and cost in billionths of the currency unit."""

    tokens: int
    cost_nanos: int


class _Counter:
    """The use of a budget by one tenant, or by all matching tenants."""

    __slots__ = ("budget", "ends_at", "loaded_at", "lock", "reserved", "starts_at", "tenant", "used", "used_at")

    def __init__(self, budget: Budget, tenant: str) -> None:
        self.budget = budget
        self.tenant = tenant
        self.lock = asyncio.Lock()
        self.starts_at = self.ends_at = 0
        self.loaded_at = self.used_at = float("-inf")
        self.used = Spending(0, 0)
        # Not bound to a period: a reservation counts as used in the period in which it is settled.
        self.reserved = Spending(0, 0)

    def roll(self, now: float) -> None:
        """Begin a new period if the current one is over."""
        self.used_at = now
        if not self.starts_at <= now < self.ends_at:
            self.starts_at, self.ends_at = period_around(now, self.budget.period)
            self.loaded_at = float("-inf")
            self.used = Spending(0, 0)

    def is_stale(self, now: float) -> bool:
        self.roll(now)
        return now - self.loaded_at >= REFRESH_S

    @property
    def share(self) -> float:
        """The used or reserved share of the bound; with two bounds, the larger share."""
        budget, shares = self.budget, [0.0]
        if budget.tokens_max:
            shares.append((self.used.tokens + self.reserved.tokens) / budget.tokens_max)
        if budget.cost_nanos_max:
            shares.append((self.used.cost_nanos + self.reserved.cost_nanos) / budget.cost_nanos_max)
        return max(shares)

    def exceeded_by(self, amount: Spending) -> tuple[str, int, int] | None:
        """Return the bound that this additional amount would exceed (unit, bound, amount taken), or None."""
        budget = self.budget
        tokens, cost_nanos = self.used.tokens + self.reserved.tokens, self.used.cost_nanos + self.reserved.cost_nanos
        if budget.tokens_max is not None and tokens + amount.tokens > budget.tokens_max:
            return "tokens", budget.tokens_max, tokens
        if budget.cost_nanos_max is not None and cost_nanos + amount.cost_nanos > budget.cost_nanos_max:
            return "cost", budget.cost_nanos_max, cost_nanos
        return None


class Hold:
    """A reservation, open until it is settled or released."""

    __slots__ = ("amount", "counters")

    def __init__(self, counters: Sequence[_Counter], amount: Spending) -> None:
        self.counters = counters
        self.amount = amount


class TenantBudgets:
    """All budgets of a process, which are `configured`; where there are none, nothing needs to be admitted or reserved.
    `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        ledger: UsageLedger,
        budgets: Iterable[Budget] = (),
        clock: Callable[[], float] = time.time,
        *,
        retry_s: float = TIMING.store_retry,
    ) -> None:
        self._retry_s = retry_s
        self._ledger = ledger
        self.configured = tuple(budgets)
        self._clock = clock
        self._counters: OrderedDict[tuple[Budget, str], _Counter] = OrderedDict()

    def reconfigure(self, budgets: Iterable[Budget]) -> None:
        """Replace the budgets. Unchanged budgets keep their reservations. Usage is read from the store again."""
        self.configured = tuple(budgets)
        self._counters = OrderedDict(item for item in self._counters.items() if item[0][0] in self.configured)

    @property
    def used(self) -> Mapping[str, Callable[[], float]]:
        """Functions that return, for each budget, the used or reserved share in its period (1.0 is all of it) of the
        tenant with the largest share among the counters of this process. May be called from any thread.
        """
        return {budget.name: partial(self._used_of, budget) for budget in self.configured}

    def _used_of(self, budget: Budget) -> float:
        now = self._clock()
        # dict.values: OrderedDict.values hashes each key, which runs Python code, and meanwhile the event loop's thread
        # could add a counter.
        counters = [counter for counter in list(dict.values(self._counters)) if counter.budget == budget]
        return max((counter.share for counter in counters if now < counter.ends_at), default=0.0)

    async def admit(self, tenant: str) -> None:
        """Return if every matching budget has something left.

        Raises:
            RateLimitError: BUDGET_EXHAUSTED, one is used up; `retry_after_s` is the time until its period ends.
            OverloadedError: STORE_UNAVAILABLE.
        """
        counters = self._matching(tenant)
        await self._refresh(counters)
        self._check(counters, Spending(1, 1))

    async def reserve(self, tenant: str, amount: Spending) -> Hold:
        """Reserve in all matching budgets, or in none.

        Raises:
            RateLimitError: BUDGET_EXHAUSTED, it would exceed one; `retry_after_s` is the time until its period ends.
        """
        counters = self._matching(tenant)
        while True:
            try:
                await self._refresh(counters)
                break
            except OverloadedError:
                # The task waits for the store, as elsewhere. Its deadline bounds the wait.
                await asyncio.sleep(self._retry_s)
        self._check(counters, amount)
        for counter in counters:
            counter.reserved = _sum(counter.reserved, amount)
        return Hold(counters, amount)

    def settle(self, hold: Hold, spent: Spending) -> None:
        """Replace the reserved amount by the spent amount. The first `settle` or `release` closes a hold."""
        now = self._clock()
        for counter in hold.counters:
            counter.roll(now)
            counter.used = _sum(counter.used, spent)
        self.release(hold)

    def release(self, hold: Hold) -> None:
        """Free the reserved amount, because it was not spent."""
        for counter in hold.counters:
            counter.reserved = Spending(
                counter.reserved.tokens - hold.amount.tokens, counter.reserved.cost_nanos - hold.amount.cost_nanos
            )
        hold.counters = ()

    def _matching(self, tenant: str) -> list[_Counter]:
        return [
            self._counter(budget, tenant if budget.per_tenant else budget.tenant)
            for budget in self.configured
            if budget.tenant in ("*", tenant)
        ]

    def _counter(self, budget: Budget, tenant: str) -> _Counter:
        counter = self._counters.get((budget, tenant))
        if counter is None:
            self._tidy()
            counter = self._counters[budget, tenant] = _Counter(budget, tenant)
            counter.used_at = self._clock()
        return counter

    def _tidy(self) -> None:
        """Check the two counters whose last check is oldest, and drop idle ones."""
        for _ in range(min(2, len(self._counters))):
            key, counter = self._counters.popitem(last=False)
            if counter.reserved != (0, 0) or self._clock() - counter.used_at < IDLE_S:
                self._counters[key] = counter

    async def _refresh(self, counters: Sequence[_Counter]) -> None:
        """Return once all counters include the usage up to REFRESH_S ago.

        Raises:
            OverloadedError: a counter has never been loaded for its period, and the store is unavailable.
        """
        while stale := [counter for counter in counters if counter.is_stale(self._clock())]:
            for counter in stale:
                async with counter.lock:
                    if counter.is_stale(self._clock()):
                        await self._load(counter)

    async def _load(self, counter: _Counter) -> None:
        starts_at, queried_at = counter.starts_at, self._clock()
        query = UsageQuery(
            tenant=None if counter.tenant == "*" else counter.tenant,
            since_hour=starts_at // HOUR_S,
            before_hour=counter.ends_at // HOUR_S,
        )
        try:
            rows = await self._ledger.usage(query)
        except OverloadedError:
            if counter.loaded_at == float("-inf"):
                raise
            counter.loaded_at = queried_at
            return
        if counter.starts_at != starts_at:
            return
        counter.loaded_at = queried_at
        # Amounts settled here may not be stored yet, and the store has amounts of other processes: the larger of the
        # two sums includes each amount at most once.
        for row in rows:
            stored = row.amounts
            counter.used = Spending(
                max(counter.used.tokens, stored.input_tokens + stored.output_tokens),
                max(counter.used.cost_nanos, stored.cost_nanos),
            )

    def _check(self, counters: Sequence[_Counter], amount: Spending) -> None:
        refused = [(counter, exceeded) for counter in counters if (exceeded := counter.exceeded_by(amount))]
        if refused:
            # Report the budget whose period ends last: nothing fits before then.
            counter, (unit, limit, taken) = max(refused, key=lambda refusal: refusal[0].ends_at)
            raise _exhausted(counter, unit, limit, taken, self._clock())


def _exhausted(counter: _Counter, unit: str, limit: int, taken: int, now: float) -> RateLimitError:
    budget = counter.budget
    ends = datetime.fromtimestamp(counter.ends_at, UTC).isoformat()
    limit_text, taken_text = (str(limit), str(taken)) if unit == "tokens" else (money(limit), money(taken))
    return RateLimitError(
        ERROR_REASON_BUDGET_EXHAUSTED,
        f"the budget {budget.name!r} admits no more until {ends}: {unit} of at most {limit_text} a {budget.period} for"
        f" tenant:{counter.tenant}, {taken_text} used or reserved",
        rule=budget.name,
        limit=limit,
        subject=f"tenant:{counter.tenant}",
        retry_after_s=counter.ends_at - now,
    )


def period_around(now: float, period: Period) -> tuple[int, int]:
    """Return the begin and end of the period that contains a time, in seconds since 1970."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return int(day.timestamp()), int((day + timedelta(days=1)).timestamp())
    first = day.replace(day=1)
    return int(first.timestamp()), int((first + timedelta(days=32)).replace(day=1).timestamp())


def _sum(left: Spending, right: Spending) -> Spending:
    return Spending(left.tokens + right.tokens, left.cost_nanos + right.cost_nanos)

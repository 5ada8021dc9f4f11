"""The limiter of one process: sliding windows in memory.

Every rule has a window per counter (the values that its `per` names) and per unit that it bounds: calls, model calls,
tokens. Which windows a charge concerns depends on its subject and stage alone; that is worked out once and remembered
as a plan. Nothing in here awaits: the port's coroutines wrap `reserve_now`, `settle_now` and `refund_now`, which a hot
path may call directly.

Memory: a window keeps a bounded number of entries, whatever its maximum (see `window`). A plan that nobody has used for
as long as its longest window is dropped, and with it the windows that no other plan has; each new plan and each 16th
reservation looks at two plans, in turn, and at two more for each that it drops. So what is idle goes as others are
served; nothing goes while nobody reserves.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias
from weakref import WeakValueDictionary

from agent_service.errors import AgentServiceError, RateLimitError, StateError
from agent_service.limits.base import Charge, Counter, LimitStatus, Reservation, Rule, Stage
from agent_service.limits.window import Entry, Window, Windows, add, add_late, change, fits
from agent_service.v1 import error_reason_pb2 as reasons

_TIDY_EVERY = 16
_TIDY_LOOKS = 2
_TIDY_DROPS_MAX = 64

_PlanKey: TypeAlias = tuple[str, str, str, Stage]  # tenant, agent, model, stage
_WindowKey: TypeAlias = tuple[str, float, frozenset[str], str, tuple[str, ...]]  # rule, seconds, per, unit, values


@dataclass(slots=True)
class _Plan:
    """The windows that charges of one subject at one stage concern: by unit, in the order of the rules.

    `span_s` is that of the longest, `used_at` when somebody last asked for it.
    """

    calls: Windows
    model_calls: Windows
    tokens: Windows
    span_s: float
    used_at: float


class _Whose(NamedTuple):
    """Whose counter it is: in words, and by the values of the rule's `per`. One for all windows of it."""

    subject: str
    values: tuple[str, ...]


class MemoryReservation:
    """What was charged, where, and how the tightest window stood right after.

    `calls`, `model_calls` and `tokens` are the entries in the plan's windows, None where nothing was asked or no window
    counts it. `tightest` is the window with the least left, None where no rule matched; `stood` is then its limit, what
    remained of it, and when its oldest charge was made.
    """

    __slots__ = ("at", "calls", "charge", "model_calls", "open", "plan", "stood", "tightest", "tokens")

    def __init__(self, charge: Charge, plan: _Plan, at: float) -> None:
        self.charge = charge
        self.plan = plan
        self.at = at
        self.calls: Entry | None = None
        self.model_calls: Entry | None = None
        self.tokens: Entry | None = None
        self.open = True
        self.tightest: Window | None = None
        self.stood: tuple[int, int, float]

    @property
    def status(self) -> LimitStatus | None:
        """The tightest matching rule of what was charged; None where no rule matched."""
        if self.tightest is None:
            return None
        limit, remaining, oldest_at = self.stood
        # In this order a charge that is alone gives exactly the window, which callers round up to whole seconds.
        reset_s = self.tightest.span_s - (self.at - oldest_at)
        return LimitStatus(self.tightest.rule, limit, remaining, reset_s)


@dataclass(frozen=True, slots=True)
class Held:
    """What a limiter keeps: windows (one per rule, counter and unit) and the entries in them."""

    windows: int
    entries: int


class MemoryLimiter:
    """A Limiter for one process. Its `…_now` methods are the port's without the coroutine; they never block for long.

    `clock` gives seconds and never goes back. `on_denied` is told the rule that had no room.

    Raises:
        ValueError: two rules share a name, a window is not a positive number of seconds, or `per` has an unknown name.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        clock: Callable[[], float] = time.monotonic,
        on_denied: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._rules = self._shares = _checked(rules)
        self._processes = 1
        self._clock = clock
        self._on_denied = on_denied
        self._lock = threading.Lock()
        self._plans: OrderedDict[_PlanKey, _Plan] = OrderedDict()
        self._windows: WeakValueDictionary[_WindowKey, Window] = WeakValueDictionary()
        self._retained: tuple[Windows, float] = ((), 0.0)
        self._reservations = 0

    async def reserve(self, charge: Charge) -> MemoryReservation:
        """See `Limiter`."""
        return self.reserve_now(charge)

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """See `Limiter`."""
        self.settle_now(reservation, tokens=tokens)

    async def refund(self, reservation: Reservation) -> None:
        """See `Limiter`."""
        self.refund_now(reservation)

    def reserve_now(self, charge: Charge) -> MemoryReservation:
        """See `Limiter.reserve`."""
        calls, model_calls, tokens = charge.calls, charge.model_calls, charge.tokens
        if calls < 0 or model_calls < 0 or tokens < 0:
            raise ValueError("a charge is never negative")
        with self._lock:
            now = self._clock()
            self._reservations += 1
            if not self._reservations % _TIDY_EVERY:
                self._tidy(now)
            plan = self._plan(charge, now)
            if not (
                (not calls or fits(plan.calls, calls, now))
                and (not model_calls or fits(plan.model_calls, model_calls, now))
                and (not tokens or fits(plan.tokens, tokens, now))
            ):
                refusal = _refusal(plan, charge, now)
                self._on_denied(refusal.rule if isinstance(refusal, RateLimitError) else refusal.metadata["rule"])
                try:
                    raise refusal
                finally:
                    # Else its traceback would keep it, and through our callers' frames their call, until the garbage is
                    # collected, which is seldom.
                    del refusal
            reservation = MemoryReservation(charge, plan, now)
            # The last one tells the status: calls before tokens before model calls.
            tightest: Window | None = None
            if model_calls and plan.model_calls:
                reservation.model_calls = entry = Entry(now, model_calls)
                tightest = add(plan.model_calls, entry)
            if tokens and plan.tokens:
                reservation.tokens = entry = Entry(now, tokens)
                tightest = add(plan.tokens, entry)
            if calls and plan.calls:
                reservation.calls = entry = Entry(now, calls)
                tightest = add(plan.calls, entry)
            if tightest is not None:
                reservation.tightest = tightest
                reservation.stood = (tightest.limit, tightest.limit - tightest.used, tightest.oldest.at)
            return reservation

    def settle_now(self, reservation: Reservation, *, tokens: int) -> None:
        """See `Limiter.settle`."""
        assert isinstance(reservation, MemoryReservation)
        if tokens < 0:
            raise ValueError("nobody uses less than nothing")
        with self._lock:
            if not reservation.open:
                return
            reservation.open = False
            windows, entry = reservation.plan.tokens, reservation.tokens
            if entry is not None:
                change(windows, entry, tokens, self._clock())
            elif tokens:
                add_late(windows, Entry(reservation.at, tokens), self._clock())

    def refund_now(self, reservation: Reservation) -> None:
        """See `Limiter.refund`."""
        assert isinstance(reservation, MemoryReservation)
        with self._lock:
            if not reservation.open:
                return
            reservation.open = False
            plan, now = reservation.plan, self._clock()
            for windows, entry in (
                (plan.calls, reservation.calls),
                (plan.model_calls, reservation.model_calls),
                (plan.tokens, reservation.tokens),
            ):
                if entry is not None:
                    change(windows, entry, 0, now)

    def counters(self, charge: Charge) -> frozenset[Counter]:
        """See `Limiter`."""
        with self._lock:
            plan = self._plan(charge, self._clock())
            asked = ((plan.calls, charge.calls), (plan.model_calls, charge.model_calls), (plan.tokens, charge.tokens))
            return frozenset((window.rule, window.subject) for windows, amount in asked if amount for window in windows)

    def share(self, processes: int) -> None:
        """See `Limiter`."""
        if processes != self._processes:
            self._processes = processes
            self._apply()

    def recall(self, charge: Charge, age_s: float) -> None:
        """Charge what was charged `age_s` ago by a process that is no more, whether it fits or not."""
        with self._lock:
            now = self._clock()
            plan, at = self._plan(charge, now), now - age_s
            for windows, amount in (
                (plan.calls, charge.calls),
                (plan.model_calls, charge.model_calls),
                (plan.tokens, charge.tokens),
            ):
                if amount:
                    add_late(windows, Entry(at, amount), now)

    def reconfigure(self, rules: Iterable[Rule]) -> None:
        """Swap the rules, all at once. A rule of the same name, `window_s` and `per` keeps its counters, whatever else
        of it changed; a unit that it did not bound before starts at 0. Where more is used than a new maximum allows,
        nothing is admitted until enough has left the window.

        Raises:
            ValueError: as for the constructor; the old rules stay.
        """
        self._rules = _checked(rules)
        self._apply()

    @property
    def window_s(self) -> float:
        """The longest window of any rule."""
        return max((rule.window_s for rule in self._rules), default=0.0)

    def held(self) -> Held:
        """How much is kept in memory now."""
        with self._lock:
            windows = list(self._windows.values())
            return Held(len(windows), sum(map(len, windows)))

    def _apply(self) -> None:
        """Let the rules hold from here on, as this process has its share in them."""
        shares = tuple(_share(rule, self._processes) for rule in self._rules)
        with self._lock:
            # Plans hold the windows. New ones are made as they are needed; until then this holds what they will find.
            until = self._clock() + max((rule.window_s for rule in shares), default=0.0)
            self._retained = (tuple(self._windows.values()), until)
            self._shares = shares
            self._plans.clear()

    def _plan(self, charge: Charge, now: float) -> _Plan:
        subject = charge.subject
        key = (subject.tenant, subject.agent, subject.model, charge.stage)
        plan = self._plans.get(key)
        if plan is None:
            return self._new_plan(key, now)
        plan.used_at = now
        return plan

    def _new_plan(self, key: _PlanKey, now: float) -> _Plan:
        self._tidy(now)
        tenant, agent, model, stage = key
        named = {"tenant": tenant, "agent": agent, "model": model}
        calls, model_calls, tokens = [], [], []
        for rule in self._shares:
            if stage not in (Stage.ALL, rule.stage) or not _matches(rule, named):
                continue
            whose = _Whose(_subject(rule, named), tuple(named[what] for what in named if what in rule.per))
            if rule.calls_max is not None:
                calls.append(self._window(rule, whose, "calls", rule.calls_max))
            if rule.model_calls_max is not None:
                model_calls.append(self._window(rule, whose, "model calls", rule.model_calls_max))
            if rule.tokens_max is not None:
                tokens.append(self._window(rule, whose, "tokens", rule.tokens_max))
        span_s = max((window.span_s for window in (*calls, *model_calls, *tokens)), default=0.0)
        plan = self._plans[key] = _Plan(tuple(calls), tuple(model_calls), tuple(tokens), span_s, now)
        return plan

    def _window(self, rule: Rule, whose: _Whose, unit: str, limit: int) -> Window:
        key = (rule.name, rule.window_s, rule.per, unit, whose.values)
        window = self._windows.get(key)
        if window is None:
            window = Window(rule=rule.name, subject=whose.subject, unit=unit, limit=limit, span_s=rule.window_s)
            self._windows[key] = window
        window.limit = limit  # may be another since `reconfigure`
        return window

    def _tidy(self, now: float) -> None:
        """Look at plans that were not looked at for longest, and drop those that are idle: they hold nothing."""
        looks, drops = min(_TIDY_LOOKS, len(self._plans)), 0
        while looks and self._plans:
            looks -= 1
            key, plan = self._plans.popitem(last=False)
            if plan.used_at + plan.span_s > now:
                self._plans[key] = plan
            elif drops < _TIDY_DROPS_MAX:  # idle ones lie together
                drops += 1
                looks += _TIDY_LOOKS
        windows, until = self._retained
        if windows and until <= now:
            self._retained = ((), 0.0)


def _share(rule: Rule, processes: int) -> Rule:
    """A rule as one of so many processes holds it. What admits nothing still does, everything else a little."""
    if processes == 1:
        return rule
    calls, model_calls, tokens = (
        bound and max(1, bound // processes) for bound in (rule.calls_max, rule.model_calls_max, rule.tokens_max)
    )
    return replace(rule, calls_max=calls, model_calls_max=model_calls, tokens_max=tokens)


def _checked(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    checked = tuple(rules)
    if len({rule.name for rule in checked}) < len(checked):
        raise ValueError("two rules share a name")
    for rule in checked:
        if not 0 < rule.window_s < math.inf:
            raise ValueError(f"rule {rule.name}: a window is a positive number of seconds")
        if not rule.per <= {"tenant", "agent", "model"}:
            raise ValueError(f"rule {rule.name}: per names tenant, agent, model and nothing else")
    return checked


def _matches(rule: Rule, named: dict[str, str]) -> bool:
    wanted = (rule.tenant, rule.agent, rule.model)
    return all(want in ("*", name) for want, name in zip(wanted, named.values(), strict=True))


def _subject(rule: Rule, named: dict[str, str]) -> str:
    """Whose counter it is: what the rule names or counts apart, as `tenant:acme agent:assistant`."""
    wanted = (rule.tenant, rule.agent, rule.model)
    told = [
        f"{what}:{named[what]}" for what, want in zip(named, wanted, strict=True) if want != "*" or what in rule.per
    ]
    return " ".join(told) or "tenant:*"


def _refusal(plan: _Plan, charge: Charge, now: float) -> AgentServiceError:
    """Why a charge does not fit: it never can, or the window that takes longest to make room has none."""
    asked = [(window, charge.calls) for window in plan.calls if charge.calls]
    asked += [(window, charge.model_calls) for window in plan.model_calls if charge.model_calls]
    asked += [(window, charge.tokens) for window in plan.tokens if charge.tokens]
    for window, amount in asked:
        if amount > window.limit:
            return _never(window, amount)
    full = [(window, amount) for window, amount in asked if not window.fits(amount, now)]
    instants = [window.fits_at(amount, now) for window, amount in full]
    latest = max(instants)
    window, _ = full[instants.index(latest)]
    reason = reasons.ERROR_REASON_RATE_LIMITED_TOKENS
    if window.unit == "calls":
        reason = reasons.ERROR_REASON_RATE_LIMITED_CALLS
    return RateLimitError(
        reason,
        f"at most {window.limit} {window.unit} in {window.span_s:g} s for {window.subject} (rule {window.rule})",
        rule=window.rule,
        limit=window.limit,
        subject=window.subject,
        retry_after_s=_wait(now, latest),
    )


def _never(window: Window, amount: int) -> StateError:
    return StateError(
        reasons.ERROR_REASON_COST_ABOVE_LIMIT,
        f"{amount} {window.unit} can never fit: at most {window.limit} in {window.span_s:g} s for {window.subject}"
        f" (rule {window.rule})",
        metadata={"rule": window.rule, "limit": str(window.limit), "asked": str(amount)},
    )


def _wait(now: float, until: float) -> float:
    """The smallest wait with `now + wait >= until`, in the arithmetic of whoever adds it."""
    wait = until - now
    while now + wait < until:
        wait = math.nextafter(wait, math.inf)
    return wait

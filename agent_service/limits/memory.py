"""The limiter of one process: sliding windows in memory.

Every rule has a window per counter (the values that its `per` names) and per unit that it bounds: calls, model calls,
tokens. The windows of a charge depend on its subject and stage alone; they are computed once and cached as a plan.
Nothing here awaits: the port's coroutines wrap `reserve_now`, `settle_now` and `refund_now`, which a hot path may call
directly.

Memory: a window keeps a bounded number of entries, independent of its maximum (see `window`). A plan that has been
unused for as long as its longest window is dropped, with the windows that no other plan has. Each new plan and each
16th reservation checks two plans, in turn, and two more for each one that it drops. So idle plans are removed while
reservations are made, and not otherwise.
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

from agent_service.errors import RateLimitError
from agent_service.limits.base import Charge, Counter, LimitStatus, Reservation, Rule, Stage, Subject
from agent_service.limits.refusal import refusal_of
from agent_service.limits.window import Entry, Window, Windows, add, add_late, change, fits

_TIDY_EVERY = 16
_TIDY_LOOKS = 2
_TIDY_DROPS_MAX = 64

_PlanKey: TypeAlias = tuple[Subject, Stage]
_WindowKey: TypeAlias = tuple[str, float, frozenset[str], str, tuple[str, ...]]  # rule, seconds, per, unit, values


@dataclass(slots=True)
class _Plan:
    """The windows of one subject at one stage: by unit, in the order of the rules.

    `span_s` is the span of the longest window, `used_at` the time of the last use.
    """

    calls: Windows
    model_calls: Windows
    tokens: Windows
    span_s: float
    used_at: float

    def asked(self, charge: Charge) -> list[tuple[Window, int]]:
        """Return the windows that a charge concerns, each with the amount requested."""
        units = ((self.calls, charge.calls), (self.model_calls, charge.model_calls), (self.tokens, charge.tokens))
        return [(window, amount) for windows, amount in units if amount for window in windows]

    def is_idle(self, now: float) -> bool:
        """Return whether it has been unused for so long that its windows are empty and all loans are paid back."""
        windows = (*self.calls, *self.model_calls, *self.tokens)
        return self.used_at + self.span_s <= now and all(window.paid_at <= now for window in windows)


class _Whose(NamedTuple):
    """The subject of a counter: as text, and as the values of the rule's `per`. Shared by all windows
    of the counter.
    """

    subject: str
    values: tuple[str, ...]


class MemoryReservation:
    """A charge, its windows, and the state of the tightest window right after it.

    `calls`, `model_calls` and `tokens` are the entries in the plan's windows; None where nothing was requested or no
    window counts it. `tightest` is the window with the least left, None where no rule matched; `stood` has its limit,
    the remaining amount, and the time of its oldest charge.
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

    def entry_in(self, window: Window) -> Entry | None:
        """Return the entry that was charged in one of the plan's windows."""
        if window in self.plan.tokens:
            return self.tokens
        return self.calls if window in self.plan.calls else self.model_calls

    @property
    def status(self) -> LimitStatus | None:
        """The tightest matching rule of what was charged; None where no rule matched."""
        if self.tightest is None:
            return None
        limit, remaining, oldest_at = self.stood
        # In this order of operations a single charge gives exactly the window; callers round up to whole seconds.
        reset_s = self.tightest.span_s - (self.at - oldest_at)
        return LimitStatus(self.tightest.rule, limit, remaining, reset_s)


@dataclass(frozen=True, slots=True)
class Held:
    """The size of a limiter's state: windows (one per rule, counter and unit) and the entries in them."""

    windows: int
    entries: int


class MemoryLimiter:
    """A Limiter for one process. Its `…_now` methods are the port's methods without a coroutine; they do not block.

    `clock` returns seconds and is monotonic. `on_denied` is called with the name of the rule that had no room.

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
        _, _, calls, model_calls, tokens = charge
        if calls < 0 or model_calls < 0 or tokens < 0:
            raise ValueError("a charge must not be negative")
        with self._lock:
            now = self._clock()
            self._reservations += 1
            if not self._reservations % _TIDY_EVERY:
                self._tidy(now)
            plan = self._plan(charge, now)
            lending: Windows = ()
            if not (
                (not calls or fits(plan.calls, calls, now))
                and (not model_calls or fits(plan.model_calls, model_calls, now))
                and (not tokens or fits(plan.tokens, tokens, now))
            ):
                lending = self._lending(plan, charge, now)
            reservation = MemoryReservation(charge, plan, now)
            # The last one gives the status: calls before tokens before model calls.
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
                reservation.stood = (tightest.limit, max(0, tightest.limit - tightest.used), tightest.oldest.at)
            for window in lending:
                window.loan = reservation.entry_in(window)
            return reservation

    def _lending(self, plan: _Plan, charge: Charge, now: float) -> Windows:
        """Return the windows that lend the amount that does not fit them, where all the others have room.

        Raises:
            As `Limiter.reserve`.
        """
        asked = plan.asked(charge)
        lending = tuple(window for window, amount in asked if window.lends(amount, now))
        full = [(window, amount) for window, amount in asked if window not in lending and not window.fits(amount, now)]
        if not full:
            return lending
        refusal = refusal_of(full, now)
        self._on_denied(refusal.rule if isinstance(refusal, RateLimitError) else refusal.metadata["rule"])
        try:
            raise refusal
        finally:
            # Otherwise its traceback would keep it, and the callers' frames with it, until the next garbage collection,
            # which is rare.
            del refusal

    def settle_now(self, reservation: Reservation, *, tokens: int) -> None:
        """See `Limiter.settle`."""
        assert isinstance(reservation, MemoryReservation)
        if tokens < 0:
            raise ValueError("tokens must not be negative")
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
            return frozenset((window.rule, window.subject) for window, _ in plan.asked(charge))

    def share(self, processes: int) -> None:
        """See `Limiter`."""
        if processes != self._processes:
            self._processes = processes
            self._apply()

    def replay(self, charge: Charge, age_s: float) -> None:
        """Charge again what a process that has ended charged `age_s` ago, whether it fits or not."""
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
        """Replace the rules, all at once. A rule of the same name, `window_s` and `per` keeps its counters, also where
        its maximums changed; a unit that it did not bound before starts at 0. Where more is used than a new maximum
        allows, nothing is admitted until enough has left the window.

        Raises:
            ValueError: as for the constructor; the old rules stay.
        """
        self._rules = _checked(rules)
        self._apply()

    @property
    def window_s(self) -> float:
        """The longest window of all rules."""
        return max((rule.window_s for rule in self._rules), default=0.0)

    def held(self) -> Held:
        """Return the number of windows and entries in memory now."""
        with self._lock:
            windows = list(self._windows.values())
            return Held(len(windows), sum(map(len, windows)))

    def _apply(self) -> None:
        """Put the rules in force, each with this process's share."""
        shares = tuple(_share(rule, self._processes) for rule in self._rules)
        with self._lock:
            # Plans hold the windows. New plans are made on demand; until then `windows` keeps the counters for them.
            until = self._clock() + max((rule.window_s for rule in shares), default=0.0)
            windows = tuple(self._windows.values())
            self._retained = (windows, max((until, *(window.paid_at for window in windows))))
            self._shares = shares
            self._plans.clear()

    def _plan(self, charge: Charge, now: float) -> _Plan:
        key = (charge.subject, charge.stage)
        plan = self._plans.get(key)
        if plan is None:
            return self._new_plan(key, now)
        plan.used_at = now
        return plan

    def _new_plan(self, key: _PlanKey, now: float) -> _Plan:
        self._tidy(now)
        (tenant, agent, model), stage = key
        named = {"tenant": tenant, "agent": agent, "model": model}
        calls, model_calls, tokens = [], [], []
        for rule, share in zip(self._rules, self._shares, strict=True):
            if stage not in (Stage.ALL, rule.stage) or not _matches(rule, named):
                continue
            whose = _Whose(_subject(rule, named), tuple(named[what] for what in named if what in rule.per))
            if rule.calls_max is not None:
                calls.append(self._window(rule, whose, "calls", rule.calls_max, share.calls_max))
            if rule.model_calls_max is not None:
                model_calls.append(
                    self._window(rule, whose, "model calls", rule.model_calls_max, share.model_calls_max)
                )
            if rule.tokens_max is not None:
                tokens.append(self._window(rule, whose, "tokens", rule.tokens_max, share.tokens_max))
        span_s = max((window.span_s for window in (*calls, *model_calls, *tokens)), default=0.0)
        plan = self._plans[key] = _Plan(tuple(calls), tuple(model_calls), tuple(tokens), span_s, now)
        return plan

    def _window(self, rule: Rule, whose: _Whose, unit: str, whole: int, limit: int | None) -> Window:
        key = (rule.name, rule.window_s, rule.per, unit, whose.values)
        window = self._windows.get(key)
        if window is None:
            window = Window(rule=rule.name, subject=whose.subject, unit=unit, span_s=rule.window_s)
            self._windows[key] = window
        # `reconfigure` and `share` may have changed them.
        window.whole, window.limit = whole, whole if limit is None else limit
        return window

    def _tidy(self, now: float) -> None:
        """Check the plans whose last check is oldest, and drop idle ones: they hold no charge."""
        looks, drops = min(_TIDY_LOOKS, len(self._plans)), 0
        while looks and self._plans:
            looks -= 1
            key, plan = self._plans.popitem(last=False)
            if not plan.is_idle(now):
                self._plans[key] = plan
            elif drops < _TIDY_DROPS_MAX:  # idle plans are often adjacent
                drops += 1
                looks += _TIDY_LOOKS
        windows, until = self._retained
        if windows and until <= now:
            self._retained = ((), 0.0)


def _share(rule: Rule, processes: int) -> Rule:
    """Return the rule with one process's share of each maximum: at least 1, and 0 where the maximum is 0."""
    if processes == 1:
        return rule
    calls, model_calls, tokens = (
        bound and max(1, bound // processes) for bound in (rule.calls_max, rule.model_calls_max, rule.tokens_max)
    )
    return replace(rule, calls_max=calls, model_calls_max=model_calls, tokens_max=tokens)


def _checked(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    checked = tuple(rules)
    if len({rule.name for rule in checked}) < len(checked):
        raise ValueError("two rules have the same name")
    for rule in checked:
        if not 0 < rule.window_s < math.inf:
            raise ValueError(f"rule {rule.name}: window_s must be a positive number of seconds")
        if not rule.per <= {"tenant", "agent", "model"}:
            raise ValueError(f"rule {rule.name}: per may name only tenant, agent and model")
    return checked


def _matches(rule: Rule, named: dict[str, str]) -> bool:
    wanted = (rule.tenant, rule.agent, rule.model)
    return all(want in ("*", name) for want, name in zip(wanted, named.values(), strict=True))


def _subject(rule: Rule, named: dict[str, str]) -> str:
    """Return the counter's subject, the names that the rule matches or counts apart: `tenant:acme agent:assistant`."""
    wanted = (rule.tenant, rule.agent, rule.model)
    names = [
        f"{what}:{named[what]}" for what, want in zip(named, wanted, strict=True) if want != "*" or what in rule.per
    ]
    return " ".join(names) or "tenant:*"

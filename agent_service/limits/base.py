"""The limiter port: rules that bound calls, model calls and tokens in sliding windows.

A rule matches work by tenant, agent and model and bounds calls, model calls and tokens in an exact sliding window. A
charge must fit all matching rules at once, or no rule is charged. Tokens are reserved before a request to a model and
settled when its usage is known.

A window holds what was charged in the last `window_s` seconds: a charge made at `t` counts from `t` until just before
`t + window_s`. No charge is admitted that takes a window above its maximum, and none is refused that fits. Only
settling can take one above it, by what was used beyond the reservation; then nothing is admitted until enough has left.

Where a window holds many charges, a limiter may merge old ones. A merged charge counts for up to a sixtieth of the
window longer, and never for less time. So a maximum always holds; a charge that would just fit may be admitted late by
that much, and every time that is reported to a caller may be that much too long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit. `tenant`, `agent` and `model` are names to match; `*` matches anything. No two rules share a name.

    `per` names those of tenant, agent, model that get a counter of their own; the rest share one.
    A maximum of None does not bound; one of 0 admits nothing, ever.
    """

    name: str
    tenant: str = "*"
    agent: str = "*"
    model: str = "*"
    per: frozenset[str] = field(default_factory=lambda: frozenset({"tenant"}))
    calls_max: int | None = None
    model_calls_max: int | None = None
    tokens_max: int | None = None
    window_s: float = 60.0

    @property
    def stage(self) -> Stage:
        """The stage at which the rule's calls are counted: REQUEST if it matches by tenant alone, else TASK."""
        named = self.agent != "*" or self.model != "*" or self.per & {"agent", "model"}
        return Stage.TASK if named else Stage.REQUEST


class Stage(Enum):
    """The rules that a charge concerns.

    Calls are counted at two stages, by different rules. REQUEST: before the request is read, by the rules that match by
    tenant alone. TASK: in the service, once agent and model are known, by the rules that name them. Model calls and
    tokens are charged to ALL rules.
    """

    REQUEST = "request"
    TASK = "task"
    ALL = "all"

    # Members compare by identity. Enum's own hash is a Python call, which counts in a path that takes 3 µs.
    __hash__ = object.__hash__


class Subject(NamedTuple):
    """The tenant, agent and model that a charge is for. A field is empty while it is not known."""

    tenant: str
    agent: str = ""
    model: str = ""


class Charge(NamedTuple):
    """The amounts that are requested, all or nothing. No amount is negative; an amount of 0 is not requested."""

    subject: Subject
    stage: Stage
    calls: int = 0
    model_calls: int = 0
    tokens: int = 0


class LimitStatus(NamedTuple):
    """The state of the tightest matching rule right after a charge, as the `ratelimit-*` metadata reports it.

    The tightest rule has the least remaining. Of rules with different units, those that bound calls come first, then
    tokens, then model calls, as far as these were charged; `limit` and `remaining` count that unit.
    `reset_s` is the time until the oldest charge in the window leaves it.
    """

    rule: str
    limit: int
    remaining: int
    reset_s: float


# A rule's name and the subject of one of its counters: RateLimitError has them as `rule` and `subject`.
Counter: TypeAlias = tuple[str, str]


class Reservation(Protocol):
    """The result of `reserve`."""

    @property
    def charge(self) -> Charge:
        """The amounts that were requested."""

    @property
    def status(self) -> LimitStatus | None:
        """The tightest matching rule of what was charged; None where no rule matched."""


class Limiter(Protocol):
    """Holds every rule. Safe to call from several threads.

    A reservation is closed by its first `settle` or `refund`; further calls change nothing. A reservation that is never
    closed stays charged in full. Neither call changes a window that the charge has already left.
    """

    async def reserve(self, charge: Charge) -> Reservation:
        """Charge all matching rules, or none. A call that is cancelled charges none.

        Raises:
            RateLimitError: the charge does not fit now. `retry_after_s` is the smallest wait after which it fits all
                rules, if nothing else is charged or closed; `rule` and `subject` name the counter that takes that long;
                `reason` is RATE_LIMITED_CALLS where that counter counts calls, else RATE_LIMITED_TOKENS.
            StateError: COST_ABOVE_LIMIT, the charge can never fit; its metadata has rule, limit and asked.
            ValueError: an amount is negative.
        """

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Replace the reserved tokens by the tokens that were used, at the time of the reservation. An excess is
        charged too, because it was spent; unused tokens are freed. Calls and model calls stay charged.

        Raises:
            ValueError: `tokens` is negative.
        """

    async def refund(self, reservation: Reservation) -> None:
        """Reverse the whole charge, calls and model calls too, because the work was never begun."""

    def counters(self, charge: Charge) -> frozenset[Counter]:
        """Return the counters that can refuse the charge: those of all matching rules that bound what it requests. Does
        no I/O.
        """

    def share(self, processes: int) -> None:
        """Set the number of processes that enforce the same rules, this one included.

        A limiter whose windows are shared between processes ignores it. A limiter with windows of its own admits its
        share of every maximum, and at least 1 where the maximum is not 0. A charge above the share and within the
        maximum is admitted to an empty window; then nothing is admitted for as long as the share takes to admit that
        amount. So each process keeps to its share over time, but not in every window.
        """

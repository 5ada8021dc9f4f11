"""The limiter port: how much of what may be used in which window.

A rule matches work by tenant, agent and model and bounds calls, model calls and tokens in an exact sliding window. What
is asked must fit all matching rules at once, or none is charged. Tokens are reserved before a model is asked and
settled when its usage is known.

A window holds what was charged in the last `window_s` seconds: a charge made at `t` counts from `t` until just before
`t + window_s`. No charge is admitted that takes a window above its maximum, and none is refused that fits. Only
settling can take one above it, by what was used beyond the reservation; then nothing is admitted until enough has left.

Where a window holds many charges, a limiter may merge old ones. What is merged counts longer than it would have, by a
sixtieth of the window at most, and never shorter: a maximum holds all the same, and a charge that would just fit, and
every time that a caller is told, may be late by that much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias


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
        """Where the rule's calls are counted: what matches by tenant alone at the edge, the rest in the service."""
        named = self.agent != "*" or self.model != "*" or self.per & {"agent", "model"}
        return Stage.NAMED if named else Stage.EDGE


class Stage(Enum):
    """Which of the rules a charge is about.

    Calls are counted twice over different rules: at the edge, before the request is read, those that match by tenant
    alone; in the service, once agent and model are known, those that name them. Model calls and tokens are held by ALL.
    """

    EDGE = "edge"
    NAMED = "named"
    ALL = "all"

    # Members are themselves and nothing else. Enum's own hash is a call of Python, in a path that takes 3 µs.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Subject:
    """Who uses what. Empty where not known yet."""

    tenant: str
    agent: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Charge:
    """What is asked for, all or nothing. No amount is negative; one of 0 is not asked for."""

    subject: Subject
    stage: Stage
    calls: int = 0
    model_calls: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """How the tightest matching rule stood right after a charge, as the `ratelimit-*` metadata tells it.

    The tightest is the one with the least remaining. Of rules that bound different things, those that bound calls come
    first, then tokens, then model calls, as far as these were charged: `limit` and `remaining` count that one thing.
    `reset_s` is the time until the oldest charge in the window leaves it.
    """

    rule: str
    limit: int
    remaining: int
    reset_s: float


# A rule's name and whose counter of it: what RateLimitError calls `rule` and `subject`.
Counter: TypeAlias = tuple[str, str]


class Reservation(Protocol):
    """What `reserve` charged."""

    @property
    def charge(self) -> Charge:
        """What was asked for."""

    @property
    def status(self) -> LimitStatus | None:
        """The tightest matching rule of what was charged; None where no rule matched."""


class Limiter(Protocol):
    """Holds every rule. Safe to call from several threads.

    A reservation is closed by its first `settle` or `refund`; whatever comes after that changes nothing. One that is
    never closed stays charged as reserved. Neither changes a window that the charge has left already.
    """

    async def reserve(self, charge: Charge) -> Reservation:
        """Charge all matching rules, or none. One that is canceled charges none.

        Raises:
            RateLimitError: it does not fit now. `retry_after_s` is the smallest wait after which it fits all rules, if
                nothing else is charged or closed; `rule` and `subject` name the counter that takes that long, `reason`
                is RATE_LIMITED_CALLS where that counts calls, else RATE_LIMITED_TOKENS.
            StateError: COST_ABOVE_LIMIT, it can never fit, whatever is free now; metadata has rule, limit and asked.
            ValueError: an amount is negative.
        """

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Replace the reserved tokens by those really used, at the time of the reservation: an excess is charged too
        (it was spent), the rest is freed. Calls and model calls stay charged.

        Raises:
            ValueError: `tokens` is negative.
        """

    async def refund(self, reservation: Reservation) -> None:
        """Take the whole charge back, calls and model calls too: the work was never begun."""

    def counters(self, charge: Charge) -> frozenset[Counter]:
        """Whom a charge would be refused by: the counters of all matching rules that bound what it asks for. Asks
        nobody outside this process.
        """

    def share(self, processes: int) -> None:
        """So many processes hold the same rules, this one included. A limiter that shares its windows with theirs
        ignores it; one that cannot see them admits its part of every maximum, 1 at least where that is not 0. A charge
        above its part and within the maximum is admitted to an empty window, and then nothing for as long as the part
        takes to admit as much: each process keeps to its part over time, and not in every window.
        """

"""The limiters that there are, each behind a harness, and what their tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from agent_service.errors import RateLimitError
from agent_service.limits.base import Charge, Limiter, Rule, Stage, Subject
from agent_service.limits.fair import FairLimiter
from agent_service.limits.memory import MemoryLimiter

HAIR_S = 2**-10
ACME = Subject("acme", "assistant", "smart")
EVERYONE: frozenset[str] = frozenset()


class Harness(Protocol):
    """Makes limiters that live by the clock `now`, in seconds. Only tests move it."""

    now: float

    def limiter(self, *rules: Rule) -> Limiter:
        """A limiter in which nothing is charged yet."""

    def advance(self, seconds: float) -> None: ...


class MemoryHarness:
    def __init__(self) -> None:
        self.now = 1000.0

    def limiter(self, *rules: Rule) -> Limiter:
        return MemoryLimiter(rules, clock=lambda: self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FairHarness(MemoryHarness):
    """What tasks wait with is a limiter too."""

    def limiter(self, *rules: Rule) -> Limiter:
        return FairLimiter(super().limiter(*rules))


HARNESSES: list[Callable[[], Harness]] = [MemoryHarness, FairHarness]


def call(subject: Subject = ACME, stage: Stage = Stage.REQUEST) -> Charge:
    return Charge(subject, stage, calls=1)


def model_call(tokens: int, subject: Subject = ACME) -> Charge:
    return Charge(subject, Stage.ALL, model_calls=1, tokens=tokens)


async def refused(limiter: Limiter, charge: Charge) -> RateLimitError:
    with pytest.raises(RateLimitError) as caught:
        await limiter.reserve(charge)
    return caught.value

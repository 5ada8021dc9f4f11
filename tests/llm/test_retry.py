"""Tries: when a model is asked again, after which wait, and what the observer hears of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from agent_service.errors import LLMError, RateLimitError
from agent_service.llm.base import Message, ModelObserver, ModelReply, ModelRequest, Role
from agent_service.llm.breaker import CircuitOpenError
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.v1.error_reason_pb2 import (
    ERROR_REASON_LLM_RATE_LIMITED,
    ERROR_REASON_LLM_UNAVAILABLE,
    ERROR_REASON_RATE_LIMITED_TOKENS,
)
from agent_service.v1.task_event_pb2 import FINISH_REASON_STOP
from tests.llm.observer import RecordingObserver

REPLY = ModelReply("hello", [], FINISH_REASON_STOP)


def down(retry_after_s: float | None = None, *, retryable: bool = True) -> LLMError:
    return LLMError(ERROR_REASON_LLM_UNAVAILABLE, "down", retryable=retryable, retry_after_s=retry_after_s)


@dataclass(slots=True)
class Flaky:
    """A model that fails with these errors in turn, then replies."""

    errors: list[BaseException]

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        observer.text("…")
        if self.errors:
            raise self.errors.pop(0)
        return REPLY


@dataclass(slots=True)
class World:
    """Time that only sleeping moves, and chance that is always the same."""

    now: float = 1000.0
    chance: float = 1.0
    slept: list[float] = field(default_factory=list)
    budget: RetryBudget = field(default_factory=RetryBudget)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def retrying(self, *errors: BaseException, attempts: int = 3, **more: float) -> Retrying:
        return Retrying(
            Flaky(list(errors)),
            "smart",
            self.budget,
            attempts=attempts,
            sleep=self.sleep,
            random=lambda: self.chance,
            clock=lambda: self.now,
            **more,
        )


@pytest.fixture
def world() -> World:
    return World()


def request(deadline: float | None = None) -> ModelRequest:
    return ModelRequest([Message(Role.USER, "hello")], deadline=deadline)


async def test_a_reply_at_once_is_one_try(world: World, observer: RecordingObserver) -> None:
    assert await world.retrying().generate(request(), observer) is REPLY
    assert observer.told == [("started", "smart", 1), ("text", "…")]
    assert world.slept == []


async def test_the_observer_hears_of_every_try_in_order(world: World, observer: RecordingObserver) -> None:
    first, second = down(), down()
    assert await world.retrying(first, second).generate(request(), observer) is REPLY
    assert observer.told == [
        ("started", "smart", 1),
        ("text", "…"),
        ("failed", first),
        ("started", "smart", 2),
        ("text", "…"),
        ("failed", second),
        ("started", "smart", 3),
        ("text", "…"),
    ]


async def test_the_last_error_is_raised_when_the_tries_are_used_up(world: World, observer: RecordingObserver) -> None:
    errors = [down(), down(), down()]
    with pytest.raises(LLMError) as raised:
        await world.retrying(*errors).generate(request(), observer)
    assert raised.value is errors[2]
    assert observer.told[-1] == ("failed", errors[2])
    assert len(world.slept) == 2


async def test_an_error_that_is_not_retryable_ends_the_tries(world: World, observer: RecordingObserver) -> None:
    with pytest.raises(LLMError):
        await world.retrying(down(retryable=False)).generate(request(), observer)
    assert len(observer.told) == 3


@pytest.mark.parametrize(("chance", "waits"), [(1.0, [1, 2, 4, 8, 8]), (0.5, [0.5, 1, 2, 4, 4]), (0.0, [0] * 5)])
async def test_the_wait_is_a_random_part_of_a_ceiling_that_doubles(
    world: World, observer: RecordingObserver, chance: float, waits: list[float]
) -> None:
    world.chance = chance
    await world.retrying(*[down() for _ in range(5)], attempts=6).generate(request(), observer)
    assert world.slept == waits


@pytest.mark.parametrize(
    ("chance", "asked_s", "wait_s"), [(0.0, 20, 20), (1.0, 20, 22), (1.0, 0.25, 1), (0.0, 120, 120)]
)
async def test_a_wait_that_the_provider_asks_for_is_kept_and_spread_by_a_tenth(
    world: World, observer: RecordingObserver, chance: float, asked_s: float, wait_s: float
) -> None:
    world.chance = chance
    await world.retrying(down(asked_s)).generate(request(), observer)
    assert world.slept == [pytest.approx(wait_s)]


async def test_a_provider_that_asks_for_more_than_two_minutes_is_not_waited_for(
    world: World, observer: RecordingObserver
) -> None:
    with pytest.raises(LLMError):
        await world.retrying(down(120.5)).generate(request(), observer)
    assert world.slept == []


@pytest.mark.parametrize(("left_s", "tries"), [(0.9, 1), (1.0, 1), (1.1, 2), (2.9, 2), (3.1, 3)])
async def test_no_wait_is_begun_that_the_deadline_would_cut(
    world: World, observer: RecordingObserver, left_s: float, tries: int
) -> None:
    with pytest.raises(LLMError):
        await world.retrying(down(), down(), down()).generate(request(world.now + left_s), observer)
    assert observer.told.count(("text", "…")) == tries
    assert world.now < 1000 + left_s


async def test_a_refusal_of_the_observer_is_no_try_and_passes_through(world: World) -> None:
    full = RateLimitError(ERROR_REASON_RATE_LIMITED_TOKENS, "full", rule="r", limit=1, subject="s", retry_after_s=1)
    observer = RecordingObserver(refusal=full)
    with pytest.raises(RateLimitError) as raised:
        await world.retrying(down()).generate(request(), observer)
    assert raised.value is full
    assert observer.told == []


@pytest.mark.parametrize("stop", [asyncio.CancelledError(), ValueError("a bug")])
async def test_cancellation_and_bugs_pass_through_untouched(
    world: World, observer: RecordingObserver, stop: BaseException
) -> None:
    with pytest.raises(type(stop)) as raised:
        await world.retrying(stop).generate(request(), observer)
    assert raised.value is stop
    assert observer.told == [("started", "smart", 1), ("text", "…")]


# The budget.


async def test_an_outage_spends_the_budget_and_then_requests_are_tried_once(
    world: World, observer: RecordingObserver
) -> None:
    for _ in range(40):
        with pytest.raises(LLMError):
            await world.retrying(down(), down(), attempts=2).generate(request(), observer)
    assert len(world.slept) == 500 // 14


async def test_successes_fill_the_budget_again(world: World, observer: RecordingObserver) -> None:
    while world.budget.take(down()):
        pass
    left = 500 % 14
    for _ in range(14 - left):
        assert not world.budget.take(down())
        await world.retrying().generate(request(), observer)
    assert world.budget.take(down())
    assert not world.budget.take(down())


def test_a_full_budget_gets_no_fuller() -> None:
    budget = RetryBudget()
    budget.succeeded()
    assert sum(budget.take(down()) for _ in range(100)) == 35


def test_retries_after_a_rate_limit_cost_less() -> None:
    budget = RetryBudget()
    limited = LLMError(ERROR_REASON_LLM_RATE_LIMITED, "slow down", retryable=True)
    assert sum(budget.take(limited) for _ in range(200)) == 100


async def test_a_retry_that_is_not_made_costs_nothing(world: World, observer: RecordingObserver) -> None:
    for _ in range(50):
        with pytest.raises(LLMError):
            await world.retrying(down()).generate(request(world.now), observer)
    assert sum(world.budget.take(down()) for _ in range(100)) == 35


@dataclass(slots=True)
class Gate:
    """An observer before whom the circuit is open so many times."""

    refusals: int
    observer: RecordingObserver

    async def started(self, model: str, try_number: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise CircuitOpenError(4.0)
        await self.observer.started(model, try_number)

    def traceparent(self) -> str:
        return self.observer.traceparent()

    def text(self, text: str) -> None:
        self.observer.text(text)

    def reasoning(self, text: str) -> None:
        self.observer.reasoning(text)

    async def failed(self, error: LLMError) -> None:
        await self.observer.failed(error)


async def test_an_open_circuit_is_waited_for_where_nobody_else_can_be_asked_and_is_no_try(
    world: World, observer: RecordingObserver
) -> None:
    world.chance = 0.5
    retrying = world.retrying(down(), patience_s=15.0)
    assert await retrying.generate(request(), Gate(2, observer)) is REPLY
    assert [entry[:3] for entry in observer.told if entry[0] == "started"] == [
        ("started", "smart", 1),
        ("started", "smart", 2),
    ]
    assert world.slept == [5.25, 5.25, 0.5]


async def test_the_spread_of_those_who_wait_never_takes_a_call_past_its_time(
    world: World, observer: RecordingObserver
) -> None:
    retrying = world.retrying(patience_s=60.0)
    assert await retrying.generate(request(1005.0), Gate(1, observer)) is REPLY
    assert world.slept == [5.0]


async def test_patience_is_counted_over_all_tries(world: World, observer: RecordingObserver) -> None:
    world.chance = 0.0
    with pytest.raises(CircuitOpenError):
        await world.retrying(patience_s=15.0).generate(request(), Gate(4, observer))
    assert sum(world.slept) == 12.0
    assert observer.told == []


@pytest.mark.parametrize(("patience_s", "deadline"), [(0.0, None), (15.0, 1003.0)])
async def test_without_patience_or_time_an_open_circuit_ends_the_call_at_once(
    world: World, observer: RecordingObserver, patience_s: float, deadline: float | None
) -> None:
    with pytest.raises(CircuitOpenError):
        await world.retrying(patience_s=patience_s).generate(request(deadline), Gate(1, observer))
    assert world.slept == []


async def test_where_another_model_can_be_asked_a_provider_is_not_waited_for_as_long(
    world: World, observer: RecordingObserver
) -> None:
    with pytest.raises(LLMError):
        await world.retrying(down(retry_after_s=9.0), retry_after_s_max=8.0).generate(request(), observer)
    assert world.slept == []

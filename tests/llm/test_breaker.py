"""The circuit breaker: when it opens, what it lets through, when it closes."""

from __future__ import annotations

import asyncio

import pytest

from agent_service.errors import LLMError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.llm.breaker import Breaking, Circuit, CircuitBreaker, CircuitOpenError
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import FINISH_REASON_STOP
from tests.llm.observer import RecordingObserver

DOWN = LLMError(reasons.ERROR_REASON_LLM_UNAVAILABLE, "down", retryable=True)
REJECTED = LLMError(reasons.ERROR_REASON_LLM_REJECTED, "rejected")
ASKED = ModelRequest([])


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def changes() -> list[Circuit]:
    return []


@pytest.fixture
def breaker(clock: Clock, changes: list[Circuit]) -> CircuitBreaker:
    return CircuitBreaker(on_change=changes.append, clock=clock)


def circuit(breaker: CircuitBreaker) -> Circuit:
    return breaker.circuit


def end(breaker: CircuitBreaker, *errors: LLMError | None) -> None:
    """Requests that end like this, one after the other."""
    for error in errors:
        ticket = breaker.enter()
        if error is None:
            breaker.succeeded(ticket)
        else:
            breaker.failed(ticket, error)


def test_half_of_at_least_five_requests_open_it(breaker: CircuitBreaker, changes: list[Circuit]) -> None:
    end(breaker, DOWN, DOWN, DOWN, DOWN)
    assert circuit(breaker) is Circuit.CLOSED
    end(breaker, None, None, None, None, None)
    end(breaker, DOWN)
    assert (circuit(breaker), changes) == (Circuit.OPEN, [Circuit.OPEN])
    with pytest.raises(CircuitOpenError) as refused:
        breaker.enter()
    assert (refused.value.reason, refused.value.retryable) == (reasons.ERROR_REASON_LLM_UNAVAILABLE, True)
    assert refused.value.retry_after_s == CircuitBreaker.OPEN_S


def test_what_is_older_than_the_window_does_not_count(breaker: CircuitBreaker, clock: Clock) -> None:
    end(breaker, DOWN, DOWN, DOWN, DOWN)
    clock.now += CircuitBreaker.WINDOW_S
    end(breaker, DOWN, DOWN, DOWN, DOWN)
    assert circuit(breaker) is Circuit.CLOSED
    clock.now += CircuitBreaker.WINDOW_S - 1
    end(breaker, DOWN)
    assert circuit(breaker) is Circuit.OPEN


def test_requests_that_are_answered_with_a_rejection_do_not_count(breaker: CircuitBreaker) -> None:
    for reason in (reasons.ERROR_REASON_LLM_REJECTED, reasons.ERROR_REASON_LLM_AUTH):
        end(breaker, *(LLMError(reason, "no") for _ in range(20)))
    assert circuit(breaker) is Circuit.CLOSED
    end(breaker, DOWN, DOWN, DOWN, DOWN)
    assert circuit(breaker) is Circuit.CLOSED
    end(breaker, DOWN)
    assert circuit(breaker) is Circuit.OPEN


@pytest.mark.parametrize("reason", [reasons.ERROR_REASON_LLM_TIMEOUT, reasons.ERROR_REASON_LLM_RATE_LIMITED])
def test_timeouts_and_rate_limits_count(breaker: CircuitBreaker, reason: reasons.ErrorReason.ValueType) -> None:
    end(breaker, *(LLMError(reason, "slow") for _ in range(5)))
    assert circuit(breaker) is Circuit.OPEN


@pytest.mark.parametrize("answer", [None, REJECTED])
def test_after_five_seconds_one_request_is_let_through_and_an_answer_closes_it(
    breaker: CircuitBreaker, clock: Clock, changes: list[Circuit], answer: LLMError | None
) -> None:
    end(breaker, *[DOWN] * 5)
    clock.now += CircuitBreaker.OPEN_S
    assert circuit(breaker) is Circuit.HALF_OPEN
    probe = breaker.enter()
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as refused:
            breaker.enter()
        assert refused.value.retry_after_s == CircuitBreaker.PROBING_S
    if answer is None:
        breaker.succeeded(probe)
    else:
        breaker.failed(probe, answer)
    assert changes == [Circuit.OPEN, Circuit.CLOSED]
    # What was before is forgotten.
    end(breaker, DOWN, DOWN, DOWN, DOWN)
    assert circuit(breaker) is Circuit.CLOSED


def test_where_that_request_fails_it_stays_open_for_as_long_again(
    breaker: CircuitBreaker, clock: Clock, changes: list[Circuit]
) -> None:
    end(breaker, *[DOWN] * 5)
    clock.now += CircuitBreaker.OPEN_S
    end(breaker, DOWN)
    with pytest.raises(CircuitOpenError) as refused:
        breaker.enter()
    assert refused.value.retry_after_s == CircuitBreaker.OPEN_S
    assert changes == [Circuit.OPEN]


def test_one_that_takes_long_does_not_keep_the_next_from_being_let_through(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    end(breaker, *[DOWN] * 5)
    clock.now += CircuitBreaker.OPEN_S
    slow = breaker.enter()
    clock.now += CircuitBreaker.OPEN_S
    end(breaker, None)
    assert circuit(breaker) is Circuit.CLOSED
    breaker.failed(slow, DOWN)
    assert circuit(breaker) is Circuit.CLOSED


def test_where_nobody_waits_for_that_request_the_next_one_is_let_through(breaker: CircuitBreaker, clock: Clock) -> None:
    end(breaker, *[DOWN] * 5)
    clock.now += CircuitBreaker.OPEN_S
    breaker.withdrawn(breaker.enter())
    end(breaker, None)
    assert circuit(breaker) is Circuit.CLOSED


def test_requests_of_before_the_outage_neither_close_it_nor_free_the_one_that_is_let_through(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    early = [breaker.enter() for _ in range(3)]
    end(breaker, *[DOWN] * 5)
    breaker.succeeded(early[0])
    assert circuit(breaker) is Circuit.OPEN
    clock.now += CircuitBreaker.OPEN_S
    breaker.enter()
    breaker.withdrawn(early[1])
    breaker.failed(early[2], REJECTED)
    with pytest.raises(CircuitOpenError):
        breaker.enter()


class Failing:
    """A model that never replies."""

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        raise DOWN


class Replying:
    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        return ModelReply("well", [], FINISH_REASON_STOP)


class Hanging:
    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def no_sleep(_: float) -> None:
    """No time passes."""


async def test_every_try_counts_and_an_open_circuit_stops_the_tries_that_are_left(breaker: CircuitBreaker) -> None:
    retrying = Retrying(Failing(), "m", RetryBudget(), attempts=10, base_delay_s=0, sleep=no_sleep)
    observer = RecordingObserver()
    with pytest.raises(CircuitOpenError):
        await Breaking(retrying, breaker).generate(ASKED, observer)
    assert [entry[0] for entry in observer.told] == ["started", "failed"] * 5
    with pytest.raises(CircuitOpenError):
        await Breaking(retrying, breaker).generate(ASKED, observer)
    assert len(observer.told) == 10


async def test_a_call_that_is_canceled_or_forbidden_while_it_is_the_one_let_through_leaves_the_way_free(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    end(breaker, *[DOWN] * 5)
    clock.now += CircuitBreaker.OPEN_S
    forbidding = RecordingObserver(refusal=RuntimeError("a limit"))
    with pytest.raises(RuntimeError):
        await Breaking(Retrying(Replying(), "m", RetryBudget()), breaker).generate(ASKED, forbidding)
    hanging = Hanging()
    asking = asyncio.create_task(
        Breaking(Retrying(hanging, "m", RetryBudget()), breaker).generate(ASKED, RecordingObserver())
    )
    await hanging.asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await Breaking(Retrying(Replying(), "m", RetryBudget()), breaker).generate(ASKED, RecordingObserver())
    assert circuit(breaker) is Circuit.CLOSED


async def cut_off(breaker: CircuitBreaker, clock: Clock, *, after_s: float, deadline_s: float, wrote: str = "") -> None:
    """A request to a model that hangs, cancelled after some time; `wrote` is what it wrote until then."""
    hanging = Hanging()
    request = ASKED._replace(deadline=clock.now + deadline_s)
    gate: list[ModelObserver] = []

    class Writing:
        async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
            gate.append(observer)
            return await hanging.generate(request, observer)

    model = Breaking(Retrying(Writing(), "m", RetryBudget(), clock=clock), breaker)
    asking = asyncio.create_task(model.generate(request, RecordingObserver()))
    await hanging.asked.wait()
    clock.now += after_s
    if wrote:
        gate[0].text(wrote)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_requests_that_a_deadline_ended_before_anything_came_open_it(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    for _ in range(CircuitBreaker.REQUESTS_MIN):
        assert circuit(breaker) is Circuit.CLOSED
        await cut_off(breaker, clock, after_s=1.0, deadline_s=1.0)
    assert circuit(breaker) is Circuit.OPEN


@pytest.mark.parametrize(
    ("after_s", "deadline_s", "wrote"),
    [(1.0, 5.0, ""), (0.2, 0.2, ""), (1.0, 1.0, "some")],
    ids=["before its deadline", "with hardly any time", "in the middle of its reply"],
)
async def test_a_request_that_was_canceled_otherwise_says_nothing(
    breaker: CircuitBreaker, clock: Clock, after_s: float, deadline_s: float, wrote: str
) -> None:
    for _ in range(3 * CircuitBreaker.REQUESTS_MIN):
        await cut_off(breaker, clock, after_s=after_s, deadline_s=deadline_s, wrote=wrote)
    assert circuit(breaker) is Circuit.CLOSED


async def test_those_with_little_time_do_not_take_a_slow_model_from_the_others(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    for _ in range(3 * CircuitBreaker.REQUESTS_MIN):
        other = breaker.enter()
        await cut_off(breaker, clock, after_s=0.5, deadline_s=1.0)
        hurried = asyncio.create_task(cut_off(breaker, clock, after_s=1.0, deadline_s=1.0))
        await asyncio.sleep(0)
        breaker.succeeded(other)
        await hurried
    assert circuit(breaker) is Circuit.CLOSED

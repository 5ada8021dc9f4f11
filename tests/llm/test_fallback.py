"""Fallbacks: who is asked, in which order, and how the tries are counted."""

from __future__ import annotations

import asyncio

import pytest

from agent_service.errors import LLMError, RateLimitError
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest
from agent_service.llm.breaker import Breaking, Circuit, CircuitBreaker, CircuitOpenError
from agent_service.llm.fallback import FallingBack
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import FINISH_REASON_STOP
from tests import harness
from tests.harness import SOON_S
from tests.llm.observer import RecordingObserver

ASKED = ModelRequest([])


class Failing:
    """Writes its name, and fails."""

    def __init__(self, name: str, reason: reasons.ErrorReason.ValueType, *, retryable: bool = True) -> None:
        self._name = name
        self._error = LLMError(reason, f"{name} failed", retryable=retryable)

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        observer.text(self._name)
        raise self._error


class Replying:
    def __init__(self, name: str) -> None:
        self._name = name

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        observer.text(self._name)
        return ModelReply(self._name, [], FINISH_REASON_STOP)


async def no_sleep(_: float) -> None:
    """No time passes."""


def tried(key: str, model: Model, attempts: int = 2) -> Model:
    return Retrying(model, key, RetryBudget(), attempts=attempts, sleep=no_sleep)


def down(key: str) -> Model:
    return tried(key, Failing(key, reasons.ERROR_REASON_LLM_UNAVAILABLE))


def shut(key: str) -> Model:
    """A model whose circuit is open."""
    breaker = CircuitBreaker()
    for _ in range(CircuitBreaker.REQUESTS_MIN):
        breaker.failed(breaker.enter(), LLMError(reasons.ERROR_REASON_LLM_UNAVAILABLE, "down"))
    return Breaking(tried(key, Replying(key)), breaker)


def started(observer: RecordingObserver) -> list[tuple[object, ...]]:
    return [entry[1:] for entry in observer.told if entry[0] == "started"]


async def test_each_model_has_its_tries_and_the_numbers_go_on_over_all_of_them(observer: RecordingObserver) -> None:
    reply = await FallingBack([down("a"), down("b"), tried("c", Replying("c"))]).generate(ASKED, observer)
    assert reply.text == "c"
    assert started(observer) == [("a", 1), ("a", 2), ("b", 3), ("b", 4), ("c", 5)]
    assert observer.texts == ["a", "a", "b", "b", "c"]


async def test_a_first_model_that_replies_is_asked_alone(observer: RecordingObserver) -> None:
    assert (await FallingBack([tried("a", Replying("a")), down("b")]).generate(ASKED, observer)).text == "a"
    assert started(observer) == [("a", 1)]


async def test_one_whose_circuit_is_open_is_passed_over(observer: RecordingObserver) -> None:
    await FallingBack([shut("a"), down("b"), shut("c"), tried("d", Replying("d"))]).generate(ASKED, observer)
    assert started(observer) == [("b", 1), ("b", 2), ("d", 3)]


async def test_where_none_replies_the_last_ones_failure_is_the_answer(observer: RecordingObserver) -> None:
    with pytest.raises(LLMError, match="b failed"):
        await FallingBack([down("a"), down("b")]).generate(ASKED, observer)
    with pytest.raises(CircuitOpenError):
        await FallingBack([shut("a"), shut("b")]).generate(ASKED, RecordingObserver())


@pytest.mark.parametrize("reason", [reasons.ERROR_REASON_LLM_AUTH, reasons.ERROR_REASON_LLM_RATE_LIMITED])
async def test_a_rejected_key_or_an_empty_account_falls_back_at_once(
    observer: RecordingObserver, reason: reasons.ErrorReason.ValueType
) -> None:
    refusing = tried("a", Failing("a", reason, retryable=False))
    await FallingBack([refusing, tried("b", Replying("b"))]).generate(ASKED, observer)
    assert started(observer) == [("a", 1), ("b", 2)]


async def test_a_request_that_is_rejected_is_no_outage(observer: RecordingObserver) -> None:
    rejecting = tried("a", Failing("a", reasons.ERROR_REASON_LLM_REJECTED, retryable=False))
    with pytest.raises(LLMError, match="a failed"):
        await FallingBack([rejecting, tried("b", Replying("b"))]).generate(ASKED, observer)
    assert started(observer) == [("a", 1)]


async def test_what_a_limit_of_ours_refuses_is_no_outage_either() -> None:
    full = RateLimitError(
        reasons.ERROR_REASON_RATE_LIMITED_TOKENS, "full", rule="r", limit=1, subject="t", retry_after_s=1.0
    )
    with pytest.raises(RateLimitError):
        await FallingBack([down("a"), down("b")]).generate(ASKED, RecordingObserver(refusal=full))


class Slow:
    """Writes after a while, begins with something else if it is told to, and never ends."""

    def __init__(self, *pieces: str, thinks: bool = False) -> None:
        self._pieces = pieces
        self._thinks = thinks

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        for piece in self._pieces:
            (observer.reasoning if self._thinks else observer.text)(piece)
        await asyncio.sleep(0.2 if self._pieces else 30)
        return ModelReply("".join(self._pieces), [], FINISH_REASON_STOP)


def in_s(seconds: float) -> ModelRequest:
    return ASKED._replace(deadline=asyncio.get_running_loop().time() + seconds)


async def test_a_model_that_writes_nothing_leaves_the_others_their_share_of_the_time(
    observer: RecordingObserver,
) -> None:
    chain = [tried("a", Slow()), tried("b", Slow()), tried("c", Replying("c"))]
    async with asyncio.timeout(SOON_S):
        assert (await FallingBack(chain).generate(in_s(0.3), observer)).text == "c"
    assert started(observer) == [("a", 1), ("b", 2), ("c", 3)]
    failures = [entry[1] for entry in observer.told if entry[0] == "failed"]
    assert [error.reason for error in failures if isinstance(error, LLMError)] == [reasons.ERROR_REASON_LLM_TIMEOUT] * 2
    assert all(error.usage and error.usage.estimated for error in failures if isinstance(error, LLMError))


@pytest.mark.parametrize("pieces", [("a", "b"), ("", "b")], ids=["text", "something else"])
async def test_a_model_that_has_begun_its_reply_may_go_on(observer: RecordingObserver, pieces: tuple[str, ...]) -> None:
    breaking = Breaking(tried("a", Slow(*pieces)), CircuitBreaker())
    reply = await FallingBack([breaking, tried("b", Replying("b"))]).generate(in_s(0.3), observer)
    assert reply.text == "".join(pieces)
    assert "".join(observer.texts) == "".join(pieces)
    assert started(observer) == [("a", 1)]


async def test_a_model_that_thinks_aloud_has_begun(observer: RecordingObserver) -> None:
    breaking = Breaking(tried("a", Slow("hm", "well", thinks=True)), CircuitBreaker())
    await FallingBack([breaking, tried("b", Replying("b"))]).generate(in_s(0.3), observer)
    assert started(observer) == [("a", 1)]


async def test_what_a_limit_of_ours_makes_wait_is_not_the_models_time() -> None:
    class Full(RecordingObserver):
        async def started(self, model: str, try_number: int) -> None:
            await asyncio.sleep(0.2)
            await RecordingObserver.started(self, model, try_number)

    observer = Full()
    await FallingBack([tried("a", Replying("a")), tried("b", Replying("b"))]).generate(in_s(0.3), observer)
    assert started(observer) == [("a", 1)]


async def test_against_a_provider_that_hangs_the_circuit_opens_and_the_fallback_answers() -> None:
    breaker = CircuitBreaker()
    first = Breaking(Retrying(Slow(), "first", RetryBudget()), breaker)
    model = FallingBack([first, Retrying(Replying("from the fallback"), "other", RetryBudget())])
    async with harness.started(harness.Parts(model=model)) as running:
        asked = [running.client.run("go", timeout_s=1) for _ in range(CircuitBreaker.REQUESTS_MIN)]
        assert {task.output for task in await asyncio.gather(*asked)} == {"from the fallback"}
        assert breaker.circuit is Circuit.OPEN
        task = await running.client.run("go", timeout_s=1)
        assert (task.output, task.usage.model_calls) == ("from the fallback", 1)

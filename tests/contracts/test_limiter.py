"""What every limiter does. A new adapter is one more harness in `limiters.HARNESSES`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import pytest

from agent_service.errors import RateLimitError, StateError, reason_name
from agent_service.limits.base import Charge, Limiter, LimitStatus, Rule, Stage, Subject
from tests.contracts.limiters import ACME, EVERYONE, HAIR_S, HARNESSES, Harness, call, model_call, refused


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest) -> Harness:
    made: Harness = request.param()
    return made


# ---- what fits, and when


async def test_admits_up_to_the_maximum_and_again_when_the_oldest_charge_leaves_the_window(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", calls_max=2, window_s=60))
    await limiter.reserve(call())
    harness.advance(10)
    await limiter.reserve(call())
    harness.advance(10)
    error = await refused(limiter, call())
    assert (error.reason_name, error.retry_after_s) == ("RATE_LIMITED_CALLS", 40)
    harness.advance(40 - HAIR_S)
    assert (await refused(limiter, call())).retry_after_s == HAIR_S
    harness.advance(HAIR_S)
    await limiter.reserve(call())
    assert (await refused(limiter, call())).retry_after_s == 10


async def test_tokens_are_weighed_and_the_wait_is_for_as_much_as_is_asked(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=100, window_s=60))
    for tokens in (10, 50, 40):
        await limiter.reserve(model_call(tokens))
        harness.advance(1)
    assert (await refused(limiter, model_call(10))).retry_after_s == 57
    assert (await refused(limiter, model_call(11))).retry_after_s == 58
    error = await refused(limiter, model_call(100))
    assert (error.reason_name, error.retry_after_s) == ("RATE_LIMITED_TOKENS", 59)


async def test_a_refusal_charges_no_rule(harness: Harness) -> None:
    limiter = harness.limiter(
        Rule("shared", per=EVERYONE, calls_max=2, tokens_max=100, model_calls_max=2), Rule("each", calls_max=1)
    )
    await limiter.reserve(call())
    for _ in range(5):
        await refused(limiter, call())
    await limiter.reserve(call(Subject("other")))
    error = await refused(limiter, call(Subject("third")))
    assert (error.rule, error.subject) == ("shared", "tenant:*")


async def test_refused_tokens_charge_no_model_call(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", model_calls_max=2, tokens_max=100))
    await limiter.reserve(model_call(60))
    for _ in range(5):
        await refused(limiter, model_call(60))
    await limiter.reserve(model_call(40))


async def test_the_error_names_the_rule_and_the_counter_that_take_longest(harness: Harness) -> None:
    limiter = harness.limiter(
        Rule("minute", calls_max=1, window_s=60),
        Rule("hour", agent="assistant", calls_max=1, window_s=3600),
        Rule("all", per=EVERYONE, calls_max=100, window_s=7200),
    )
    charge = Charge(ACME, Stage.ALL, calls=1)
    await limiter.reserve(charge)
    error = await refused(limiter, charge)
    assert (error.rule, error.subject, error.retry_after_s) == ("hour", "tenant:acme agent:assistant", 3600)
    assert error.metadata == {"rule": "hour"}
    assert error.retryable
    assert "hour" in error.message
    assert "tenant:acme agent:assistant" in error.message


async def test_a_model_call_too_many_is_refused_as_tokens_are(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", model_calls_max=1, tokens_max=100))
    await limiter.reserve(model_call(1))
    assert (await refused(limiter, model_call(1))).reason_name == "RATE_LIMITED_TOKENS"


@pytest.mark.parametrize("used", [0, 100])
async def test_what_can_never_fit_is_said_at_once_however_full_it_is(harness: Harness, used: int) -> None:
    limiter = harness.limiter(Rule("first", tokens_max=200), Rule("small", tokens_max=100))
    if used:
        await limiter.reserve(model_call(used))
    with pytest.raises(StateError) as caught:
        await limiter.reserve(model_call(101))
    assert reason_name(caught.value.reason) == "COST_ABOVE_LIMIT"
    assert caught.value.metadata == {"rule": "small", "limit": "100", "asked": "101"}
    assert caught.value.message == (
        "one request to the model reserves 101 tokens, its input and the longest reply that it may write, and rate"
        " limit small admits 100 tokens in 60 s for tenant:acme: waiting does not help; raise max_tokens of the rule,"
        " or lower max_tokens of the model"
    )


async def test_a_maximum_of_zero_admits_nothing_ever(harness: Harness) -> None:
    with pytest.raises(StateError):
        await harness.limiter(Rule("closed", calls_max=0)).reserve(call())


async def test_a_negative_amount_is_a_fault_of_the_caller(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=100))
    with pytest.raises(ValueError, match="negative"):
        await limiter.reserve(model_call(-1))
    reservation = await limiter.reserve(model_call(1))
    with pytest.raises(ValueError, match="tokens must not be negative"):
        await limiter.settle(reservation, tokens=-1)


# ---- which rules


async def test_per_gives_a_counter_to_each_and_the_rest_share_one(harness: Harness) -> None:
    limiter = harness.limiter(Rule("agents", per=frozenset({"agent"}), calls_max=1))
    await limiter.reserve(call(Subject("acme", "a"), Stage.TASK))
    await limiter.reserve(call(Subject("acme", "b"), Stage.TASK))
    error = await refused(limiter, call(Subject("other", "a"), Stage.TASK))
    assert error.subject == "agent:a"


async def test_a_rule_counts_calls_at_its_own_stage_and_tokens_at_all(harness: Harness) -> None:
    limiter = harness.limiter(
        Rule("edge", calls_max=1, tokens_max=10), Rule("named", agent="assistant", calls_max=1, tokens_max=5)
    )
    await limiter.reserve(call(stage=Stage.REQUEST))
    assert (await refused(limiter, call(stage=Stage.REQUEST))).rule == "edge"
    await limiter.reserve(call(stage=Stage.TASK))
    assert (await refused(limiter, call(stage=Stage.TASK))).rule == "named"
    await limiter.reserve(model_call(5))
    assert (await refused(limiter, model_call(1))).rule == "named"
    await limiter.reserve(model_call(5, Subject("acme", "another", "smart")))
    assert (await refused(limiter, model_call(1, Subject("acme", "another", "smart")))).rule == "edge"


async def test_without_a_matching_rule_everything_fits_and_there_is_no_status(harness: Harness) -> None:
    limiter = harness.limiter(Rule("other", tenant="other", calls_max=1, tokens_max=1))
    for _ in range(3):
        reservation = await limiter.reserve(Charge(ACME, Stage.ALL, calls=1, tokens=10**9))
        assert reservation.status is None
    await limiter.settle(reservation, tokens=1)


async def test_status_is_that_of_the_rule_with_the_fewest_calls_left(harness: Harness) -> None:
    limiter = harness.limiter(
        Rule("wide", calls_max=100, tokens_max=1), Rule("tight", calls_max=3), Rule("hour", calls_max=10, window_s=3600)
    )
    assert (await limiter.reserve(call())).status == LimitStatus("tight", 3, 2, 60)
    harness.advance(15)
    assert (await limiter.reserve(call())).status == LimitStatus("tight", 3, 1, 45)


async def test_status_of_a_model_call_counts_tokens_before_model_calls(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", model_calls_max=5, tokens_max=100))
    assert (await limiter.reserve(model_call(30))).status == LimitStatus("default", 100, 70, 60)
    assert (await limiter.reserve(Charge(ACME, Stage.ALL, model_calls=1))).status == LimitStatus("default", 5, 3, 60)


# ---- settle and refund


async def test_settling_frees_what_was_not_used(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=100, model_calls_max=2), Rule("all", tokens_max=100))
    first = await limiter.reserve(model_call(100))
    await limiter.settle(first, tokens=30)
    await limiter.reserve(model_call(70))
    await refused(limiter, model_call(1))  # model calls stay charged


async def test_settling_debits_an_excess_at_the_time_of_the_reservation(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=100))
    first = await limiter.reserve(model_call(50))
    harness.advance(20)
    await limiter.reserve(model_call(50))
    await limiter.settle(first, tokens=120)
    assert (await refused(limiter, model_call(1))).retry_after_s == 40
    harness.advance(40)
    await limiter.reserve(model_call(50))
    assert (await refused(limiter, model_call(1))).retry_after_s == 20


async def test_settling_counts_also_when_nothing_was_reserved(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=100), Rule("short", tokens_max=100, window_s=5))
    await limiter.reserve(model_call(10))
    harness.advance(10)
    unknown = await limiter.reserve(model_call(0))
    harness.advance(10)
    await limiter.reserve(model_call(10))
    await limiter.settle(unknown, tokens=80)
    assert (await refused(limiter, model_call(1))).retry_after_s == 40
    assert (await refused(limiter, model_call(20))).retry_after_s == 50


@pytest.mark.parametrize("again", ["settle", "refund"])
async def test_only_the_first_settling_or_refund_counts(harness: Harness, again: str) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=100, calls_max=1))
    reservation = await limiter.reserve(Charge(ACME, Stage.ALL, calls=1, tokens=100))
    await limiter.settle(reservation, tokens=60)
    if again == "settle":
        await limiter.settle(reservation, tokens=0)
    else:
        await limiter.refund(reservation)
    await refused(limiter, call())
    await refused(limiter, model_call(41))
    await limiter.reserve(model_call(40))


async def test_a_refund_takes_the_whole_charge_back(harness: Harness) -> None:
    limiter = harness.limiter(
        Rule("default", tokens_max=100, calls_max=1, model_calls_max=1), Rule("b", tokens_max=100)
    )
    charge = Charge(ACME, Stage.ALL, calls=1, model_calls=1, tokens=100)
    for _ in range(3):
        reservation = await limiter.reserve(charge)
        await refused(limiter, charge)
        await limiter.refund(reservation)
        await limiter.settle(reservation, tokens=100)
    await limiter.reserve(charge)


async def test_what_left_a_window_is_not_touched_there_and_still_counts_in_a_longer_one(harness: Harness) -> None:
    limiter = harness.limiter(Rule("minute", tokens_max=100), Rule("hour", tokens_max=200, window_s=3600))
    old = await limiter.reserve(model_call(50))
    harness.advance(60)
    await limiter.settle(old, tokens=110)
    await limiter.reserve(model_call(90))  # of the minute's 100 none, of the hour's 200 110 were used
    assert (await refused(limiter, model_call(1))).rule == "hour"
    await limiter.refund(old)
    assert (await refused(limiter, model_call(1))).rule == "hour"


@pytest.mark.parametrize("close", ["settle", "refund"])
async def test_closing_after_the_window_changes_nothing(harness: Harness, close: str) -> None:
    limiter = harness.limiter(Rule("default", tokens_max=100, calls_max=5))
    old = await limiter.reserve(Charge(ACME, Stage.ALL, calls=1, tokens=100))
    harness.advance(60)
    await limiter.reserve(model_call(100))
    if close == "settle":
        await limiter.settle(old, tokens=1)
    else:
        await limiter.refund(old)
    await refused(limiter, model_call(1))


# ---- concurrency


async def test_of_64_concurrent_coroutines_exactly_as_many_pass_as_fit(harness: Harness) -> None:
    limiter = harness.limiter(Rule("default", calls_max=37))
    results = await asyncio.gather(*(limiter.reserve(call()) for _ in range(64)), return_exceptions=True)
    assert sum(not isinstance(result, RateLimitError) for result in results) == 37


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """New threads let others run at every call within a limiter, so that what no lock guards goes wrong."""

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        if "limits" in frame.f_code.co_filename:
            time.sleep(0)

    threading.settrace(trace)
    yield
    threading.settrace(None)


def in_threads(count: int, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `work` in a loop of its own in each of `count` threads at once; the sum of what they return."""
    barrier = threading.Barrier(count)
    results: list[int] = []

    async def together() -> int:
        barrier.wait()
        return await work()

    threads = [threading.Thread(target=lambda: results.append(asyncio.run(together()))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return sum(results)


@pytest.mark.usefixtures("eager_threads")
def test_64_threads_get_exactly_what_fits_and_lose_nothing(harness: Harness) -> None:
    limiter = harness.limiter(Rule("own", tokens_max=700), Rule("all", per=EVERYONE, tokens_max=500))

    async def hammer() -> int:
        kept = 0
        for tokens in (5, 3, 7, 2, 4):
            try:
                reservation = await limiter.reserve(Charge(ACME, Stage.ALL, calls=1, tokens=tokens))
            except RateLimitError:
                continue
            if tokens == 7:
                await limiter.refund(reservation)
            else:
                await limiter.settle(reservation, tokens=tokens - 1)
                kept += tokens - 1
        return kept

    kept = in_threads(64, hammer)
    assert kept <= 500
    # Nothing was lost either: what the threads did not keep is free, to the token, in the tighter rule and the other.
    rest = asyncio.run(fill(limiter))
    assert kept + rest == 500
    harness.advance(60)
    assert asyncio.run(fill(limiter)) == 500


async def fill(limiter: Limiter) -> int:
    filled = 0
    while True:
        try:
            await limiter.reserve(model_call(1))
        except RateLimitError:
            return filled
        filled += 1

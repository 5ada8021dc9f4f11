"""Whether models can be used: what their providers last answered, and their circuits."""

from __future__ import annotations

import pytest

from agent_service.errors import LLMError
from agent_service.llm.breaker import CircuitBreaker
from agent_service.llm.provider_check import ProviderCheck
from agent_service.v1 import error_reason_pb2 as reasons

DOWN = LLMError(reasons.ERROR_REASON_LLM_UNAVAILABLE, "down")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def well() -> None:
    """The provider takes our key."""


async def rejecting() -> None:
    raise LLMError(reasons.ERROR_REASON_LLM_AUTH, "the model provider rejects the key")


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(clock=clock)
    for _ in range(CircuitBreaker.REQUESTS_MIN):
        breaker.failed(breaker.enter(), DOWN)
    return breaker


@pytest.mark.parametrize("counts_outages", [True, False])
async def test_an_open_circuit_is_an_outage_until_it_is_time_to_ask_again(*, counts_outages: bool) -> None:
    clock = Clock()
    providers = ProviderCheck(counts_outages=counts_outages)
    providers.watch({"a": well}, {"a": opened(clock)})
    await providers.ask()
    assert providers.models() == {"a": False}
    if counts_outages:
        with pytest.raises(LLMError, match="model a: the request was not sent to the model"):
            await providers.check()
    else:
        await providers.check()
    # Where nobody is sent here any more, nobody would close it.
    clock.now += CircuitBreaker.OPEN_S
    assert providers.models() == {"a": True}
    await providers.check()


async def test_one_of_several_that_can_be_used_is_enough() -> None:
    providers = ProviderCheck(counts_outages=True)
    providers.watch({"a": well, "b": rejecting}, {"a": CircuitBreaker(), "b": CircuitBreaker()})
    await providers.ask()
    assert providers.models() == {"a": True, "b": False}
    await providers.check()
    providers.watch({"a": well, "b": rejecting}, {"a": opened(Clock()), "b": CircuitBreaker()})
    with pytest.raises(LLMError):
        await providers.check()

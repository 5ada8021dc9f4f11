"""Retries: repeats a request to a model if that can help, and reports every request to the observer.

The only retry loop: adapters send one request. It sees no response of a provider, only the LLMError made of it.
"""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import Awaitable, Callable

from agent_service.errors import LLMError
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest
from agent_service.llm.breaker import CircuitOpenError
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_RATE_LIMITED

# If a provider requests a longer wait, the request is not retried (the openai package has the same limit).
RETRY_AFTER_S_MAX = 120.0
# The random part added to the wait that a provider requests, so that callers with the same wait do not retry together.
RETRY_AFTER_SPREAD = 0.1
# Callers that wait for an open circuit are spread over this part of their patience, for the same reason.
PATIENCE_SPREAD = 1 / 6


class RetryBudget:
    """The retry budget of a provider's model, shared by all its callers.

    The token bucket of botocore's standard retry mode, with its numbers: it holds 500; a retry takes 14, or 5 after a
    rate limit; a success puts 1 back. So an outage causes 35 retries (100 when rate limited) and then one for every 14
    (5) successes, where unlimited retries would triple the load on a provider that is down.
    """

    CAPACITY = 500
    COST = 14
    COST_RATE_LIMITED = 5
    GAIN = 1

    def __init__(self) -> None:
        self._left = self.CAPACITY

    def take(self, error: LLMError) -> bool:
        """Take the cost of a retry after this error; return False if the budget is too low."""
        cost = self.COST_RATE_LIMITED if error.reason == ERROR_REASON_LLM_RATE_LIMITED else self.COST
        if self._left < cost:
            return False
        self._left -= cost
        return True

    def succeeded(self) -> None:
        """Record that a request got its reply."""
        self._left = min(self.CAPACITY, self._left + self.GAIN)


class Retrying:
    """A Model that calls another up to `attempts` times.

    Waits between two tries with exponential back-off and full jitter: a random part of `base_delay_s`, doubled with
    every try and at most `max_delay_s`; where the provider asks for more, that and up to a tenth of it. Raises the
    error at once if it is not retryable, the budget is empty, the provider asks for more than `retry_after_s_max`, or
    the wait would not end before `ModelRequest.deadline`.

    A try that an open circuit forbids does not count. It waits for the circuit for `patience_s` at most in total: 0
    where another model can be used in the meantime.

    `model_key` is reported to the observer. `clock` is that of `ModelRequest.deadline`; the event loop's is monotonic.
    """

    def __init__(
        self,
        model: Model,
        model_key: str,
        budget: RetryBudget,
        *,
        attempts: int = 3,
        base_delay_s: float = 1.0,
        max_delay_s: float = 8.0,
        retry_after_s_max: float = RETRY_AFTER_S_MAX,
        patience_s: float = 0.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._model_key = model_key
        self._budget = budget
        self._attempts = attempts
        self._base_delay_s = base_delay_s
        self._max_delay_s = max_delay_s
        self._retry_after_s_max = retry_after_s_max
        self._patience_s = patience_s
        self._sleep = sleep
        self._random = random
        self._clock = clock

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Send requests until there is a reply, or another try cannot help.

        Raises:
            LLMError: of the last try. Exceptions of `observer.started` pass through: that try was never made.
        """
        waits_until = self._clock() + self._patience_s
        if request.deadline is not None:
            waits_until = min(waits_until, request.deadline)
        try_number = 1
        while True:
            wait_s: float | None
            try:
                await observer.started(self._model_key, try_number)
            except CircuitOpenError as refusal:
                wait_s = self._circuit_wait_s(refusal, waits_until)
                if wait_s is None:
                    raise
                await self._sleep(wait_s)
                continue
            try:
                reply = await self._model.generate(request, observer)
            except LLMError as error:
                await observer.failed(error)
                wait_s = self._wait_s(error, try_number, request.deadline)
                if wait_s is None:
                    raise
            else:
                self._budget.succeeded()
                return reply
            await self._sleep(wait_s)
            try_number += 1

    def _circuit_wait_s(self, refusal: CircuitOpenError, waits_until: float) -> float | None:
        """Return how long to wait for an open circuit; None if that is longer than until `waits_until`."""
        left_s = refusal.retry_after_s or 0.0
        spread_s = min(self._patience_s * PATIENCE_SPREAD, waits_until - self._clock() - left_s)
        return left_s + spread_s * self._random() if spread_s > 0 else None

    def _wait_s(self, error: LLMError, try_number: int, deadline: float | None) -> float | None:
        """Return how long to wait before the next try; None if there is to be none."""
        asked_s = error.retry_after_s or 0.0
        if not error.retryable or try_number >= self._attempts or asked_s > self._retry_after_s_max:
            return None
        ceiling_s = min(self._max_delay_s, self._base_delay_s * 2.0 ** min(try_number - 1, 32))
        wait_s = max(ceiling_s * self._random(), asked_s * (1 + RETRY_AFTER_SPREAD * self._random()))
        if deadline is not None and self._clock() + wait_s >= deadline:
            return None
        # Last: a retry that is not made must cost nothing.
        return wait_s if self._budget.take(error) else None

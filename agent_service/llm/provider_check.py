"""Whether the model providers can be used: asked now and then, remembered in between.

A provider that rejects our key makes every task fail until somebody mends it, so it counts always. One that is down or
slow is retried, has fallbacks, and comes back by itself: it counts only where that is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from agent_service.errors import LLMError
from agent_service.llm.breaker import Circuit, CircuitBreaker, CircuitOpenError
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_AUTH

INTERVAL_S = 30.0

# Asks one provider for its models: each with the date on which it ends, where there is one; None: it has no list.
# Raises LLMError.
Ask = Callable[[], Awaitable[Mapping[str, str | None] | None]]


class ProviderCheck:
    """The newest answer of each provider, and the state of each model's circuit."""

    def __init__(self, *, counts_outages: bool) -> None:
        self._asks: Mapping[str, Ask] = {}
        self._breakers: Mapping[str, CircuitBreaker] = {}
        self._counts_outages = counts_outages
        self._errors: dict[str, LLMError] = {}

    def watch(self, asks: Mapping[str, Ask], breakers: Mapping[str, CircuitBreaker]) -> None:
        """Look after these from now on, by model. Models that need no asking, such as scripted ones, have no `asks`."""
        self._asks = asks
        self._breakers = breakers

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(INTERVAL_S)

    async def ask(self) -> None:
        """Ask each provider once."""
        errors: dict[str, LLMError] = {}
        for model, ask in self._asks.items():
            try:
                await ask()
            except LLMError as error:
                errors[model] = error
        self._errors = errors

    def models(self) -> dict[str, bool]:
        """Return whether each model is asked now, as far as is known: its key is not rejected, and its circuit not
        open.
        """
        return {model: self._error(model) is None for model in self._breakers}

    async def check(self) -> None:
        """Return if any provider can be used, as far as is known: with one of several the service is of use.

        Raises:
            LLMError: none can; the message names one of the models.
        """
        known = {model: self._error(model) for model in self._asks}
        errors = {model: error for model, error in known.items() if error is not None and self._counts(error)}
        if errors and len(errors) == len(known):
            model, error = next(iter(errors.items()))
            raise LLMError(error.reason, f"model {model}: {error.message}")

    def _error(self, model: str) -> LLMError | None:
        breaker = self._breakers.get(model)
        if breaker is not None and breaker.circuit is Circuit.OPEN:
            return CircuitOpenError(0.0)
        return self._errors.get(model)

    def _counts(self, error: LLMError) -> bool:
        return self._counts_outages or error.reason == ERROR_REASON_LLM_AUTH

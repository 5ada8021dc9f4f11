"""A periodic check of the model providers.

A provider that rejects our key makes every task fail until an operator corrects it, so it always counts. A provider
that is down or slow is retried, has fallbacks, and recovers without help: it counts only where that is configured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from agent_service.errors import LLMError
from agent_service.llm.breaker import Circuit, CircuitBreaker, CircuitOpenError
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_AUTH

INTERVAL_S = 30.0

# Requests a provider's list of models, each with the date of its shutdown if there is one; None: it has no list. Raises
# LLMError.
Ask = Callable[[], Awaitable[Mapping[str, str | None] | None]]


class ProviderCheck:
    """Holds the newest result of each provider, and the state of each model's circuit."""

    def __init__(self, *, counts_outages: bool) -> None:
        self._asks: Mapping[str, Ask] = {}
        self._breakers: Mapping[str, CircuitBreaker] = {}
        self._counts_outages = counts_outages
        self._errors: dict[str, LLMError] = {}

    def watch(self, asks: Mapping[str, Ask], breakers: Mapping[str, CircuitBreaker]) -> None:
        """Replace the models that are checked. Models that need no check, such as scripted ones, have no `asks`."""
        self._asks = asks
        self._breakers = breakers

    async def run(self) -> None:
        """Check all providers periodically until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(INTERVAL_S)

    async def ask(self) -> None:
        """Check each provider once."""
        errors: dict[str, LLMError] = {}
        for model, ask in self._asks.items():
            try:
                await ask()
            except LLMError as error:
                errors[model] = error
        self._errors = errors

    def models(self) -> dict[str, bool]:
        """Return whether each model is usable, as far as is known: its key is not rejected, its circuit not open."""
        return {model: self._error(model) is None for model in self._breakers}

    async def check(self) -> None:
        """Return if at least one provider is usable, as far as is known: one of several is enough to serve.

        Raises:
            LLMError: none is usable; the message names one of the models.
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

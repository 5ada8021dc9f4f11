"""Whether the model providers can be used: asked now and then, remembered in between.

A provider that rejects our key makes every task fail until somebody mends it, so it counts always. One that is down or
slow is retried, has fallbacks, and comes back by itself: it counts only where that is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from agent_service.errors import LLMError
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_AUTH

INTERVAL_S = 30.0

# Asks one provider; raises LLMError.
Ask = Callable[[], Awaitable[None]]


class ProviderCheck:
    """The newest answer of each provider. `asks` is by model, and may be replaced at any time."""

    def __init__(self, asks: Mapping[str, Ask], *, counts_outages: bool) -> None:
        self.asks = asks
        self._counts_outages = counts_outages
        self._errors: dict[str, LLMError] = {}

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(INTERVAL_S)

    async def ask(self) -> None:
        """Ask each provider once."""
        errors: dict[str, LLMError] = {}
        for model, ask in self.asks.items():
            try:
                await ask()
            except LLMError as error:
                errors[model] = error
        self._errors = errors

    async def check(self) -> None:
        """Return if any provider can be used, as far as is known: with one of several the service is of use.

        Raises:
            LLMError: none can; the message names one of the models.
        """
        counting = {model: error for model, error in self._errors.items() if self._counts(error)}
        if counting and len(counting) == len(self.asks):
            model, error = next(iter(counting.items()))
            raise LLMError(error.reason, f"model {model}: {error.message}")

    def _counts(self, error: LLMError) -> bool:
        return self._counts_outages or error.reason == ERROR_REASON_LLM_AUTH

"""Prices of a model's tokens: exact integers, rounded once per request."""

from __future__ import annotations

from dataclasses import dataclass

from agent_service.text.amounts import NANOS_PER_UNIT
from agent_service.v1.task_pb2 import Usage

TOKENS_PER_PRICE = 1_000_000
# A million units of the currency for one request: an absurd usage report of a provider must not overflow sums.
COST_NANOS_MAX = 1_000_000 * NANOS_PER_UNIT


@dataclass(frozen=True, slots=True)
class Price:
    """Billionths of the currency unit for a million tokens, of each kind. The operator chooses the currency."""

    input: int
    cached_input: int
    output: int

    def cost_nanos(self, usage: Usage) -> int:
        """Return the cost of a request in billionths of the unit, rounded half up; at most COST_NANOS_MAX."""
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        fresh = usage.input_tokens - cached
        return _rounded(fresh * self.input + cached * self.cached_input + usage.output_tokens * self.output)

    def cost_nanos_max(self, input_tokens: int, output_tokens: int) -> int:
        """Return the maximum cost of a request of this size, for any share of it in the provider's cache."""
        return _rounded(input_tokens * max(self.input, self.cached_input) + output_tokens * self.output)


def _rounded(nanos_millions: int) -> int:
    return min((nanos_millions + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE, COST_NANOS_MAX)

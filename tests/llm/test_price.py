"""What tokens cost, to the billionth."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.llm.price import COST_NANOS_MAX, Price
from agent_service.v1.task_pb2 import Usage

TOKENS = st.integers(0, 10**9)
NANOS = st.integers(0, 10**11)


@given(fresh=TOKENS, cached=TOKENS, written=TOKENS, price=st.builds(Price, NANOS, NANOS, NANOS))
def test_a_cost_is_the_exact_sum_rounded_half_up_once(fresh: int, cached: int, written: int, price: Price) -> None:
    usage = Usage(
        input_tokens=fresh + cached, cached_input_tokens=cached, output_tokens=written, reasoning_tokens=written
    )

    exact = Fraction(fresh * price.input + cached * price.cached_input + written * price.output, 10**6)
    assert exact - Fraction(1, 2) < price.cost_nanos(usage) <= exact + Fraction(1, 2)
    assert price.cost_nanos(usage) <= price.cost_nanos_max(fresh + cached, written)


def test_half_a_billionth_is_rounded_up() -> None:
    assert Price(500_000, 0, 0).cost_nanos(Usage(input_tokens=1)) == 1
    assert Price(499_999, 0, 0).cost_nanos(Usage(input_tokens=1)) == 0


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=1_000_000), 150_000_000),
        (Usage(input_tokens=1_000_000, cached_input_tokens=1_000_000), 75_000_000),
        (Usage(output_tokens=1_000_000), 600_000_000),
        (Usage(input_tokens=10, cached_input_tokens=999), 750),  # a provider that counts more cached than read
        (Usage(), 0),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, cost: int) -> None:
    assert Price(150_000_000, 75_000_000, 600_000_000).cost_nanos(usage) == cost


def test_a_provider_that_counts_nonsense_overflows_nothing() -> None:
    assert Price(10**15, 10**15, 10**15).cost_nanos(Usage(input_tokens=10**12)) == COST_NANOS_MAX < 2**63


def test_a_cache_that_costs_more_than_it_saves_is_reserved_for() -> None:
    assert Price(100, 300, 0).cost_nanos_max(1_000_000, 0) == 300

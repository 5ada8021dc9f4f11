"""Prices and budgets as a file declares them: exact, and never without the price that they take."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.bootstrap.parts import price_of, tenant_budgets
from agent_service.config.values import nanos
from agent_service.engine.tenant_budgets import Budget
from agent_service.errors import ConfigError
from agent_service.llm.price import Price
from tests.config.conftest import Place


@given(st.decimals(0, 1_000_000, places=9))
def test_an_amount_is_what_was_written(amount: object) -> None:
    text = str(amount)
    if float(text) < 100_000:  # with 9 decimals, a number of YAML has no room for more
        assert nanos(float(text)) == Fraction(text) * 10**9


@pytest.mark.parametrize(
    ("text", "expected"), [(0.1, 10**8), (0.15, 15 * 10**7), (2.5, 25 * 10**8), (1e-9, 1), (7, 7 * 10**9)]
)
def test_no_amount_is_off_by_a_bit(text: float, expected: int) -> None:
    assert nanos(text) == expected


def test_more_than_9_decimals_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 9 decimals"):
        nanos(1e-10)


def test_a_cached_token_costs_what_any_other_does_where_nothing_else_is_said(place: Place) -> None:
    place.write("""\
        models:
          m: {provider: scripted, price: {input: 0.15, output: 0.6}}
          n: {provider: scripted, price: {input: 0.15, cached_input: 0.075, output: 0.6}}
          o: {provider: scripted}
        agents: {a: {model: m}}
        """)
    models = place.load().models
    prices = [model.price for model in models.values()]
    assert prices[0] is not None
    assert prices[1] is not None
    assert price_of(prices[0]) == Price(150_000_000, 150_000_000, 600_000_000)
    assert price_of(prices[1]) == Price(150_000_000, 75_000_000, 600_000_000)
    assert prices[2] is None


def test_a_budget_is_what_the_file_says(place: Place) -> None:
    place.write("""\
        models: {m: {provider: scripted, price: {input: 0, output: 0}}}
        agents: {a: {model: m}}
        budgets:
          - {name: x, max_tokens: 5}
          - {name: y, match: {tenant: acme}, per: [], period: day, max_tokens: 6, max_cost: 0.5}
        """)
    assert tenant_budgets(place.load().budgets) == [
        Budget("x", tokens_max=5),
        Budget("y", "day", "acme", per_tenant=False, tokens_max=6, cost_nanos_max=500_000_000),
    ]


@pytest.mark.parametrize(
    ("model", "agent", "budget", "problem"),
    [
        ("", "limits: {cost: 1}", "", "agents.a.limits.cost: needs a price for models.m (0 if it is free)"),
        (
            "",
            "",
            "{name: b, max_cost: 1}",
            "budgets[0].max_cost: needs a price for every model; there is none for m (0 if it is free)",
        ),
        ("", "", "{name: b}", "budgets[0]: must have max_tokens or max_cost"),
        (
            "",
            "",
            "{name: b, max_tokens: 1}, {name: b, max_tokens: 2}",
            "budgets[1].name: is already the name of budgets[0]",
        ),
        ("", "", "{name: b, max_tokens: 1, period: week}", "budgets[0].period: must be 'day' or 'month'"),
        ("", "", "{name: b, max_tokens: 1, per: [agent]}", "budgets[0].per[0]: must be 'tenant'"),
        ("", "", "{name: b, max_tokens: 0}", "budgets[0].max_tokens: must be at least 1"),
        ("", "limits: {tokens: 0}", "", "agents.a.limits.tokens: must be at least 1"),
        ("price: {input: 1}", "", "", "models.m.price.output: is missing"),
        ("price: {input: -1, output: 1}", "", "", "models.m.price.input: must be at least 0"),
        ("price: {input: .inf, output: 1}", "", "", "models.m.price.input: must be"),
        ("price: {input: 0.0000000001, output: 1}", "", "", "models.m.price.input: must have at most 9 decimals"),
        ("price: {input: 1, output: 1, outptu: 1}", "", "", "is not a setting; did you mean output?"),
    ],
)
def test_what_cannot_be_kept_is_refused(place: Place, model: str, agent: str, budget: str, problem: str) -> None:
    place.write(f"""\
        models: {{m: {{{", ".join(filter(None, ("provider: scripted", model)))}}}}}
        agents: {{a: {{{", ".join(filter(None, ("model: m", agent)))}}}}}
        budgets: [{budget}]
        """)
    with pytest.raises(ConfigError) as refused:
        place.load()
    assert problem in str(refused.value)


def test_the_model_of_the_environment_has_no_price(place: Place) -> None:
    place.write("agents: {a: {model: default}}\nbudgets: [{name: b, max_cost: 1}]\n")
    with pytest.raises(ConfigError, match="there is none for default"):
        place.load({"LLM_PROVIDER": "scripted"})

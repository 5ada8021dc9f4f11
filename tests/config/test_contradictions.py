"""Settings of which one keeps another from having its effect: told, and no reason not to start."""

from __future__ import annotations

import pytest

from .conftest import Place

MODELS = "models: {m: {provider: scripted, max_tokens: 1000, context_tokens: 8000}}\n"


def told(place: Place, text: str) -> list[str]:
    place.write(text)
    return [str(notice) for notice in place.load().notices]


@pytest.mark.parametrize(
    ("limits", "path", "why"),
    [
        ("tool_calls: 0", "tool_calls", "is 0, so a task fails as soon as it calls one of the agent's tools"),
        ("turns: 1", "turns", "is 1, so a task that calls one of the agent's tools fails before the model reads"),
    ],
)
def test_an_agent_that_cannot_use_its_tools_is_told(place: Place, limits: str, path: str, why: str) -> None:
    agent = f"agents: {{a: {{model: m, tools: [echo], limits: {{{limits}}}}}}}\n"
    (notice,) = told(place, MODELS + agent)
    assert notice.startswith(f"config.yaml:2 agents.a.limits.{path}: {why}")
    assert told(place, MODELS + agent.replace("tools: [echo], ", "")) == []


def test_a_fallback_with_less_room_is_told(place: Place) -> None:
    models = (
        "models:\n"
        "  big: {provider: scripted, max_tokens: 1000, context_tokens: 90000, fallbacks: [small]}\n"
        "  small: {provider: scripted, max_tokens: 1000, context_tokens: 8000, fallbacks: [big]}\n"
        "agents: {a: {model: big}}\n"
    )
    assert told(place, models) == [
        "config.yaml:2 models.big.fallbacks: small accepts 7000 tokens of input, and big 89000: with this"
        " fallback every conversation of big is cut to 7000"
    ]


@pytest.mark.parametrize(
    ("rule", "is_idle"),
    [
        ("match: {model: m}, max_tokens: 2000000", True),
        ("match: {model: m}, max_tokens: 1000000", False),
        ("match: {model: m}, max_tokens: 2000000, window_seconds: 120", False),
        ("match: {model: m}, max_tokens: 2000001, window_seconds: 120", True),
        ("match: {tenant: acme}, per: [], max_tokens: 2000000", True),
        ("match: {model: m}, per: [], max_tokens: 2000000", False),  # of all tenants together
        ("match: {model: m}, max_model_calls: 2000000", False),
        ("max_tokens: 2000000", False),  # it replaces the other's
    ],
)
def test_a_maximum_that_another_rule_keeps_from_being_reached_is_told(place: Place, rule: str, is_idle: bool) -> None:
    notices = told(place, f"{MODELS}agents: {{a: {{model: m}}}}\nrate_limits: [{{name: b, {rule}}}]\n")
    assert len(notices) == is_idle
    for notice in notices:
        assert notice == (
            "config.yaml:3 rate_limits[0].max_tokens: is never reached: rule default counts the same work and admits"
            " 1000000 in 60 s; raise that, or give b the same name and match"
        )

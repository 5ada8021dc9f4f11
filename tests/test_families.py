"""What is taken for known of a model by its name."""

from __future__ import annotations

import pytest

from agent_service.families import Family, family_of


def told(family: Family) -> tuple[bool, float | None, int, int]:
    return family.reasons, family.temperature, family.max_tokens, family.context_tokens


@pytest.mark.parametrize(
    "name",
    [
        "gpt-5",
        "gpt-5.6-terra",
        "gpt-6-luna",
        "gpt-6.1-terra",
        "gpt-6.2-sol",
        "gpt-6.2-astra-2026-10-01",
        "GPT-6.2-Sol",
        "openai/gpt-6-luna",
        "azure/eu/gpt-6.2-sol",
        "ft:gpt-6-luna:acme::x",
        "gpt-7",
        "gpt-10.1-nova",
    ],
)
def test_a_model_of_the_fifth_generation_or_later_reasons_and_takes_no_temperature(name: str) -> None:
    assert told(family_of(name)) == (True, None, 16_384, 272_000)


@pytest.mark.parametrize("name", ["o1", "o3-mini", "o4-mini-2025-04-16", "o5", "openai/o3"])
def test_the_o_series_reasons_in_a_smaller_window(name: str) -> None:
    assert told(family_of(name)) == (True, None, 16_384, 200_000)


@pytest.mark.parametrize(
    "name", ["gpt-4o", "gpt-4.1-mini", "gpt-4-turbo", "chatgpt-4o-latest", "gpt-5-chat-latest", "ft:gpt-4o-mini:a::b"]
)
def test_models_that_answer_at_once_take_a_temperature(name: str) -> None:
    assert told(family_of(name)) == (False, 0.2, 4096, 128_000)


@pytest.mark.parametrize("name", ["gpt-4", "gpt-4-0613", "gpt-3.5-turbo", "gpt-35-turbo", "gpt-4-32k"])
def test_the_first_models_keep_the_windows_of_their_time(name: str) -> None:
    assert told(family_of(name)) == (False, 0.2, 1024, 8192)
    assert not family_of(name).has_json_schema


@pytest.mark.parametrize("name", ["llama3.2", "Qwen/Qwen3-32B", "mistral-small", "mixtral:8x7b", "gpt-oss:20b", "phi4"])
def test_weights_that_people_serve_themselves_take_a_temperature(name: str) -> None:
    assert told(family_of(name, is_openai=False)) == (False, 0.2, 4096, 32_768)


@pytest.mark.parametrize(
    "name", ["prod-1", "deepseek-chat", "gemini-3-pro", "kimi-k2", "claude-sonnet", "x", "omni", ""]
)
def test_a_name_that_tells_nothing_is_one_of_openais_newest_models_or_sent_nothing_it_may_refuse(name: str) -> None:
    assert told(family_of(name)) == (False, None, 4096, 32_768)
    assert told(family_of(name, is_openai=True)) == (True, None, 16_384, 272_000)


@pytest.mark.parametrize(
    ("name", "takes"),
    [("gpt-5", False), ("gpt-5.3", False), ("gpt-5.4", True), ("gpt-6.2-sol", True), ("o3", False), ("gpt-4o", False)],
)
def test_tools_by_chat_completions_take_the_effort_none_since_its_generation(name: str, *, takes: bool) -> None:
    assert family_of(name).takes_effort_none is takes

"""What a model's adapter is made of: its requests, its endpoint, and where the parameters of its requests are set."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_service.bootstrap.model_settings import SETTING_OF, endpoint, places, request_settings
from agent_service.config.loader import Config, load
from agent_service.config.model_entry import Model
from agent_service.llm.base import Capabilities
from agent_service.llm.openai.request_settings import Api, PassBack, RequestSettings

OPENAI = "provider: openai, model_id: gpt-6.2-sol"
LOCAL = "provider: openai, base_url: 'http://localhost:1/v1'"
AZURE = "provider: azure, model_id: 'gpt-6.1 terra', base_url: 'https://name.openai.azure.com"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path, OPENAI)


def configured(directory: Path, entry: str) -> Config:
    path = directory / "config.yaml"
    path.write_text(f"models:\n  m: {{{entry}}}\nagents: {{a: {{model: m}}}}\n")
    environ = {"AGENT_SERVICE_CONFIG_PATH": str(path), "OPENAI_API_KEY": "sk-real", "AZURE_OPENAI_API_KEY": "real"}
    return load(environ, dotenv_path=None)


def settings(directory: Path, entry: str) -> RequestSettings:
    return request_settings(configured(directory, entry).models["m"])


def test_a_model_by_its_name_alone_is_asked_as_its_family_wants_it(config: Config) -> None:
    assert request_settings(config.models["m"]) == RequestSettings(
        "gpt-6.2-sol",
        api=Api.RESPONSES,
        max_tokens=16_384,
        max_tokens_parameter="max_completion_tokens",
        capabilities=Capabilities(json_schema=True),
    )


def test_what_is_set_is_what_is_asked_with(tmp_path: Path) -> None:
    entry = (
        f"{LOCAL}, model_id: qwen3, temperature: 0.5, max_tokens: 64, extra_body: {{seed: 1}},"
        " reasoning: {effort: low, summary: auto, pass_back: always}, capabilities: {parallel_tools: false}"
    )
    assert settings(tmp_path, entry) == RequestSettings(
        "qwen3",
        temperature=0.5,
        max_tokens=64,
        effort="low",
        summary="auto",
        pass_back=PassBack.ALWAYS,
        extra_body={"seed": 1},
        capabilities=Capabilities(parallel_tools=False, json_schema=False),
    )


@pytest.mark.parametrize(
    ("entry", "effort"),
    [
        (f"{OPENAI}, api: chat", "none"),
        (f"{OPENAI}, api: chat, reasoning: {{effort: low}}", None),
        (OPENAI, None),
        ("provider: openai, model_id: gpt-5, api: chat", None),
        (f"{LOCAL}, model_id: openai/gpt-6-luna", "none"),
        (f"{LOCAL}, model_id: qwen3", None),
    ],
)
def test_by_chat_completions_new_models_get_the_effort_none_for_tools_unless_one_is_set(
    tmp_path: Path, entry: str, effort: str | None
) -> None:
    assert settings(tmp_path, entry).effort_for_tools == effort


@pytest.mark.parametrize(
    ("entry", "encrypted"),
    [
        (OPENAI, True),
        (f"{OPENAI}, reasoning: {{pass_back: never}}", False),
        ("provider: openai, model_id: gpt-4o, api: responses", False),
        (f"{LOCAL}, model_id: qwen3, api: responses", True),
    ],
)
def test_encrypted_reasoning_is_asked_of_models_that_may_have_it_where_it_is_to_go_back(
    tmp_path: Path, entry: str, *, encrypted: bool
) -> None:
    assert settings(tmp_path, entry).encrypted_reasoning is encrypted


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        (OPENAI, "https://api.openai.com/v1/responses"),
        (f"{OPENAI}, api: chat", "https://api.openai.com/v1/chat/completions"),
        (f"{LOCAL}, model_id: x", "http://localhost:1/v1/chat/completions"),
        (f"{LOCAL}, model_id: x, api: responses", "http://localhost:1/v1/responses"),
        (f"{AZURE}'", "https://name.openai.azure.com/openai/v1/responses"),
        (f"{AZURE}/openai/v1/'", "https://name.openai.azure.com/openai/v1/responses"),
        (
            f"{AZURE}/openai', api_version: 2025-04-01-preview",
            "https://name.openai.azure.com/openai/responses?api-version=2025-04-01-preview",
        ),
        (
            f"{AZURE}', api: chat",
            "https://name.openai.azure.com/openai/deployments/gpt-6.1%20terra/chat/completions?api-version=2024-10-21",
        ),
        (
            f"{AZURE}', api_version: 2024-06-01",
            "https://name.openai.azure.com/openai/deployments/gpt-6.1%20terra/chat/completions?api-version=2024-06-01",
        ),
    ],
)
def test_each_api_has_its_place_at_each_provider(tmp_path: Path, entry: str, url: str) -> None:
    found = endpoint(configured(tmp_path, entry), "m")
    query = "&".join(f"{name}={value}" for name, value in found.query.items())
    assert found.base_url.rstrip("/") + found.path + (f"?{query}" if query else "") == url


def test_each_parameter_that_may_be_refused_is_traced_to_a_setting_that_there_is(config: Config) -> None:
    for setting in SETTING_OF.values():
        part, _, rest = setting.partition(".")
        assert part in Model.model_fields
        assert not rest or rest in type(getattr(config.models["m"], part)).model_fields
    assert places(config, "m")["max_output_tokens"] == f"{config.path}:2 models.m.max_tokens"


def test_what_a_configuration_adds_to_the_body_is_traced_too(tmp_path: Path) -> None:
    found = places(configured(tmp_path, f"{OPENAI}, extra_body: {{top_k: 5}}"), "m")
    assert found["top_k"].endswith("config.yaml:2 models.m.extra_body.top_k")

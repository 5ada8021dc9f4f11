"""How a model is asked: what its provider and its family make of what is not set, and what can be set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from agent_service.config.describe import show
from agent_service.config.model_entry import Model

from .conftest import Place
from .test_models import AZURE, problems_of

OPENAI = "provider: openai, model_id: gpt-6.2-sol"
LOCAL = "provider: openai, base_url: 'http://localhost:1/v1'"


def model(place: Place, entry: str) -> Model:
    place.write(f"models: {{m: {{{entry}}}}}\nagents: {{a: {{model: m}}}}\n")
    return place.load(OPENAI_API_KEY="sk-real", AZURE_OPENAI_API_KEY="real").models["m"]


class TestApi:
    @pytest.mark.parametrize(
        ("entry", "api"),
        [
            (OPENAI, "responses"),
            (f"{OPENAI}, api: auto", "responses"),
            (f"{OPENAI}, api: chat", "chat"),
            (f"{OPENAI}, base_url: 'https://api.openai.com/v1'", "responses"),
            (f"{OPENAI}, base_url: 'https://eu.api.openai.com/v1/'", "responses"),
            (f"{OPENAI}, base_url: 'https://api.openai.com.example.org/v1'", "chat"),
            (f"{LOCAL}, model_id: gpt-6.2-sol", "chat"),
            (f"{LOCAL}, model_id: qwen3, api: responses", "responses"),
            ("provider: openai, model_id: brand-new", "responses"),
            ("provider: openai, model_id: gpt-4o", "chat"),
            ("provider: openai, model_id: gpt-4o, api: responses", "responses"),
            (f"{AZURE}", "chat"),
            (f"{AZURE}, api: responses", "responses"),
            (f"{AZURE.replace(' d,', ' gpt-6.1-terra,')}", "responses"),
            (f"{AZURE.replace(' d,', ' gpt-6.1-terra,')}, api_version: '2025-03-01-preview'", "responses"),
            (f"{AZURE.replace(' d,', ' gpt-6.1-terra,')}, api_version: '2025-02-01-preview'", "chat"),
        ],
    )
    def test_is_responses_where_openai_or_azure_is_asked_for_a_model_that_reasons(
        self, place: Place, entry: str, api: str
    ) -> None:
        assert model(place, entry).api == api

    def test_that_the_version_of_azures_has_not_is_refused(self, place: Place) -> None:
        [problem] = problems_of(place, f"  m: {{{AZURE}, api_version: '2024-10-21', api: responses}}\n")
        assert problem == (
            "config.yaml:2 models.m.api: responses needs an api_version of 2025-03-01-preview or later, or none"
        )


class TestDefaults:
    @pytest.mark.parametrize(
        ("entry", "temperature", "max_tokens", "context_tokens", "parameter"),
        [
            (OPENAI, None, 16_384, 272_000, "max_completion_tokens"),
            ("provider: openai, model_id: brand-new", None, 16_384, 272_000, "max_completion_tokens"),
            ("provider: openai, model_id: gpt-4o", 0.2, 4096, 128_000, "max_completion_tokens"),
            ("provider: openai, model_id: gpt-4", 0.2, 1024, 8192, "max_completion_tokens"),
            (f"{LOCAL}, model_id: openai/gpt-6-luna", None, 16_384, 272_000, "max_completion_tokens"),
            (f"{LOCAL}, model_id: qwen3", 0.2, 4096, 32_768, "max_tokens"),
            (f"{LOCAL}, model_id: brand-new", None, 4096, 32_768, "max_tokens"),
            (AZURE, None, 4096, 32_768, "max_completion_tokens"),
            ("provider: scripted", None, 4096, 32_768, "max_tokens"),
        ],
    )
    def test_are_those_of_the_models_family(
        self,
        place: Place,
        entry: str,
        temperature: float | None,
        max_tokens: int,
        context_tokens: int,
        parameter: str,
    ) -> None:
        found = model(place, entry)
        assert (found.temperature, found.max_tokens, found.context_tokens) == (temperature, max_tokens, context_tokens)
        assert found.max_tokens_parameter == parameter

    def test_yield_to_what_is_set_and_null_is_not_the_same_as_unset(self, place: Place) -> None:
        llama = f"{LOCAL}, model_id: llama3.2"
        assert model(place, f"{llama}").temperature == 0.2
        assert model(place, f"{llama}, temperature: null").temperature is None
        assert model(place, f"{OPENAI}, temperature: 0.7").temperature == 0.7
        assert model(place, f"{llama}, max_tokens_parameter: max_completion_tokens").max_tokens_parameter == (
            "max_completion_tokens"
        )

    @pytest.mark.parametrize(("window", "max_tokens"), [(272_000, 16_384), (32_768, 8192), (2000, 500), (2, 1)])
    def test_of_a_reply_leave_room_in_a_window_that_is_set_smaller(
        self, place: Place, window: int, max_tokens: int
    ) -> None:
        assert model(place, f"{OPENAI}, context_tokens: {window}").max_tokens == max_tokens

    def test_are_no_second_problem_of_a_setting_that_has_one(self, place: Place) -> None:
        [problem] = problems_of(place, "  m: {provider: openai, model_id: 4}\n")
        assert problem.startswith("config.yaml:2 models.m.model_id: must be text")

    def test_are_shown_and_nothing_is_left_to_be_found_out(self, place: Place) -> None:
        model(place, f"{OPENAI}, reasoning: {{effort: low}}")
        shown = yaml.safe_load(show(place.load(OPENAI_API_KEY="sk-real")))["models"]["m"]
        assert shown["api"] == "responses"
        assert (shown["temperature"], shown["max_tokens"], shown["context_tokens"]) == (None, 16_384, 272_000)
        assert shown["max_tokens_parameter"] == "max_completion_tokens"
        assert shown["reasoning"] == {"effort": "low", "summary": None, "pass_back": "auto"}
        assert shown["capabilities"]["json_schema"] is True


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("max_tokens: 272000", "max_tokens: must be below context_tokens, here 272000: a reply that fills the window"),
        ("max_tokens: 500, context_tokens: 400", "max_tokens: must be below context_tokens, here 400"),
        ("max_tokens: null", "max_tokens: must be a whole number"),
        ("api: completions", "api: must be 'auto', 'responses' or 'chat'"),
        ("max_tokens_parameter: tokens", "max_tokens_parameter: must be 'auto', 'max_tokens' or 'max_compl"),
        ("reasoning: {effort: hard}", "reasoning.effort: must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh'"),
        ("reasoning: {pass: auto}", "reasoning.pass: is not a setting; did you mean pass_back?"),
        ("extra_body: [1]", "extra_body: must be a mapping"),
        ("extra_body: {store: true}", "extra_body: must not have store, which only the service sets"),
        ("extra_body: {previous_response_id: r1}", "extra_body: must not have previous_response_id, which only"),
        ("extra_body: {max_output_tokens: 5}", "extra_body: must not have max_output_tokens, which is the setting"),
        (
            "extra_body: {reasoning_effort: low}",
            "extra_body: must not have reasoning_effort, which is the setting reas",
        ),
        ("extra_body: {x: .inf}", "extra_body: must not contain numbers that JSON lacks"),
        (f"extra_body: {{x: {'[' * 16}{']' * 16}}}", "extra_body: must not be nested deeper than 16"),
        (f"extra_body: {{x: '{'y' * 16_384}'}}", "extra_body: must be at most 16384 bytes as JSON"),
    ],
)
def test_a_setting_of_requests_that_cannot_be_meant_is_told(place: Place, settings: str, problem: str) -> None:
    [told] = problems_of(place, f"  m: {{{OPENAI}, {settings}}}\n")
    assert told.startswith(f"config.yaml:2 models.m.{problem}")


def test_the_body_has_room_for_what_only_a_provider_knows(place: Place) -> None:
    extra = f"{{service_tier: flex, x: {'[' * 15}{']' * 15}, y: '{'z' * 16_000}', n1: 1.5, none: null}}"
    assert model(place, f"{OPENAI}, extra_body: {extra}").extra_body["service_tier"] == "flex"


class TestOfTheEnvironment:
    def test_can_be_changed_without_a_file(self, place: Place) -> None:
        config = place.load(OPENAI_API_KEY="sk-real", LLM_API="chat", LLM_TEMPERATURE="0.5", LLM_MAX_TOKENS="99")
        found = config.models["default"]
        assert (found.api, found.temperature, found.max_tokens) == ("chat", 0.5, 99)

    def test_has_the_defaults_of_its_family_and_none_is_not_unset(self, place: Place) -> None:
        llama = {"LLM_BASE_URL": "http://localhost:1/v1", "LLM_MODEL": "llama3.2"}
        assert place.load(llama).models["default"].temperature == 0.2
        assert place.load(llama, LLM_TEMPERATURE="none").models["default"].temperature is None
        assert place.load(OPENAI_API_KEY="sk-real").models["default"].api == "responses"

    @pytest.mark.parametrize(
        ("variable", "value", "told"),
        [
            ("LLM_TEMPERATURE", "warm", "must be a number from 0 to 2, or none"),
            ("LLM_TEMPERATURE", "2.1", "must be a number from 0 to 2, or none"),
            ("LLM_MAX_TOKENS", "0", "must be at least 1"),
            ("LLM_API", "completions", "must be 'auto', 'responses' or 'chat'"),
            (
                "LLM_MAX_TOKENS",
                "272000",
                "must be below context_tokens, here 272000: a reply that fills the window leaves no room for a task",
            ),
        ],
    )
    def test_says_what_does_not_fit(self, place: Place, variable: str, value: str, told: str) -> None:
        assert place.problems({variable: value}, OPENAI_API_KEY="sk-real") == [f"environment {variable}: {told}"]

    def test_is_not_changed_where_a_file_declares_models(self, place: Place) -> None:
        assert problems_of(place, f"  m: {{{OPENAI}}}\n", LLM_TEMPERATURE="none") == [
            "environment LLM_TEMPERATURE: changes the model of the environment,"
            " but config.yaml:1 models defines the models; set it there"
        ]

    def test_is_not_defined_by_what_only_changes_it(self, place: Place) -> None:
        place.write("agents: {a: {model: default}}\n")
        [problem] = place.problems(LLM_MAX_TOKENS="5")
        assert problem.startswith("config.yaml:1 models: is missing")


class TestPlaces:
    def test_name_the_line_of_a_setting_or_of_the_model_that_leaves_it_out(self, place: Place) -> None:
        place.write("""\
            models:
              m:
                provider: openai
                model_id: gpt-6.2-sol
                reasoning:
                  effort: none
            agents: {a: {model: m}}
        """)
        config = place.load(OPENAI_API_KEY="sk-real")
        assert config.place("m", "model_id") == "config.yaml:4 models.m.model_id"
        assert config.place("m", "reasoning.effort") == "config.yaml:6 models.m.reasoning.effort"
        assert config.place("m", "temperature") == "config.yaml:2 models.m.temperature"

    def test_name_the_variable_of_the_environments_model(self, place: Place) -> None:
        config = place.load(OPENAI_API_KEY="sk-real")
        assert config.place("default", "temperature") == "LLM_TEMPERATURE"
        assert config.place("default", "reasoning.effort") == "models.default.reasoning.effort of a configuration file"


def test_the_settings_that_the_manual_of_models_shows_are_valid(place: Place) -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    keys = dict.fromkeys(set(re.findall(r"\w+_API_KEY", text)) | {"OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"}, "real")
    for block in blocks:
        models = yaml.safe_load(block)["models"]
        place.write(f"{block}agents: {{a: {{model: {next(iter(models))}}}}}\n")
        assert place.load(keys).models.keys() == models.keys()

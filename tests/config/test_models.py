"""What a configuration file says of models: what they can do, who stands in, what is sent along."""

from __future__ import annotations

import pytest

from agent_service.config.describe import show

from .conftest import Place


@pytest.mark.parametrize(
    ("model", "keeps_to_schemas"),
    [
        ("provider: openai, model_id: gpt-4o", True),
        ("provider: openai, model_id: gpt-4.1-mini", True),
        ("provider: openai, model_id: gpt-4-turbo", False),
        ("provider: openai, model_id: gpt-4", False),
        ("provider: openai, model_id: gpt-4, capabilities: {json_schema: true}", True),
        ("provider: openai, model_id: gpt-4o, capabilities: {json_schema: false}", False),
        ("provider: openai, model_id: gpt-6.2-sol", True),
        ("provider: openai, model_id: gpt-6.2-sol, base_url: 'https://eu.api.openai.com/v1'", True),
        ("provider: openai, model_id: gpt-6.2-sol, base_url: 'http://localhost:1/v1'", False),
        ("provider: openai, model_id: llama3.2, base_url: 'http://localhost:1/v1'", False),
        ("provider: scripted", False),
    ],
)
def test_whether_a_model_keeps_to_a_schema_is_declared_or_known(
    place: Place, model: str, *, keeps_to_schemas: bool
) -> None:
    place.write(f"models: {{m: {{{model}}}}}\nagents: {{a: {{model: m}}}}\n")
    config = place.load(OPENAI_API_KEY="sk-real")
    assert config.models["m"].capabilities.json_schema is keeps_to_schemas


CANARY = "canary-5f3a"
AZURE = "provider: azure, model_id: d, base_url: 'https://name.openai.azure.com'"


def problems_of(place: Place, models: str, **environ: str) -> list[str]:
    place.write(f"models:\n{models}agents:\n  a: {{model: m, tools: [echo]}}\n")
    return place.problems({"OPENAI_API_KEY": "sk-real", "AZURE_OPENAI_API_KEY": "real", **environ})


class TestFallbacks:
    def test_are_other_models_each_once_and_each_mistake_has_its_line(self, place: Place) -> None:
        models = """\
  m:
    provider: openai
    model_id: x
    fallbacks:
      - m
      - local
      - locl
      - local
      - told
  local: {provider: openai, model_id: x, base_url: 'http://localhost:1/v1'}
  told: {provider: scripted}
"""
        assert problems_of(place, models) == [
            "config.yaml:6 models.m.fallbacks[0]: is the same model",
            "config.yaml:8 models.m.fallbacks[2]: 'locl' is not a model; models: local, m, told",
            "config.yaml:9 models.m.fallbacks[3]: is a duplicate of [1]",
            "config.yaml:10 models.m.fallbacks[4]: is scripted; a scripted model cannot be the fallback of a real one",
        ]

    def test_two_models_may_stand_in_for_one_another(self, place: Place) -> None:
        place.write("""\
            models:
              a: {provider: openai, model_id: x, fallbacks: [b]}
              b: {provider: openai, model_id: y, fallbacks: [a]}
            agents: {one: {model: a}, other: {model: b}}
        """)
        config = place.load(OPENAI_API_KEY="sk-real")
        assert [model.fallbacks for model in config.models.values()] == [("b",), ("a",)]

    def test_one_without_a_key_is_left_out_in_development_rather_than_played_from_a_script(self, place: Place) -> None:
        place.write(f"""\
            models:
              m: {{provider: openai, model_id: x, fallbacks: [other, local]}}
              other: {{{AZURE}}}
              local: {{provider: openai, model_id: y, base_url: 'http://localhost:1/v1'}}
            agents: {{a: {{model: m}}}}
        """)
        config = place.load(OPENAI_API_KEY="sk-real")
        assert config.stand_ins == {"other"}
        assert config.models["m"].fallbacks == ("local",)

    def test_an_agent_with_tools_does_not_name_a_model_without_but_may_fall_back_to_one(self, place: Place) -> None:
        toolless = "{provider: openai, model_id: y, base_url: 'http://localhost:1/v1', capabilities: {tools: false}}"
        assert problems_of(place, f"  m: {toolless}\n") == [
            "config.yaml:4 agents.a.model: has tools, but models.m is declared unable to call tools"
        ]
        place.write(f"""\
            models: {{m: {{provider: openai, model_id: x, fallbacks: [n]}}, n: {toolless}}}
            agents: {{a: {{model: m, tools: [echo]}}}}
        """)
        assert not place.load(OPENAI_API_KEY="sk-real").models["n"].capabilities.tools


class TestAzure:
    def test_has_a_resource_a_deployment_and_a_key_of_its_own(self, place: Place, production: dict[str, str]) -> None:
        place.write(f"models: {{m: {{{AZURE}}}}}\nagents: {{a: {{model: m}}}}\n")
        [problem] = place.problems(production)
        assert (
            problem == "config.yaml:1 models.m: production needs AZURE_OPENAI_API_KEY in the environment for this model"
        )
        key = place.load(production, AZURE_OPENAI_API_KEY=CANARY).api_key("m")
        assert key is not None
        assert key.get_secret_value() == CANARY

    @pytest.mark.parametrize(
        ("model", "told"),
        [
            ("provider: azure, model_id: d", "models.m.base_url: is missing"),
            ("provider: azure, base_url: 'https://x'", "models.m.model_id: is missing"),
            (f"{AZURE}, api_version: latest", "models.m.api_version: must match"),
            (
                "provider: openai, model_id: x, api_version: '2024-10-21'",
                "models.m.api_version: is only for the provider",
            ),
            (f"{AZURE}, script: s.yaml", "models.m.script: does not fit the provider azure"),
        ],
    )
    def test_says_what_does_not_fit(self, place: Place, model: str, told: str) -> None:
        [problem] = problems_of(place, f"  m: {{{model}}}\n")
        assert problem.startswith(f"config.yaml:2 {told}")


class TestHeaders:
    def test_are_sent_as_written_or_as_a_variable_has_them_and_secrets_are_shown_nowhere(self, place: Place) -> None:
        place.write(f"""\
            models:
              m: {{{AZURE}, headers: {{x-team: agents}}, headers_env: {{x-gateway-key: GATEWAY_KEY}}}}
            agents: {{a: {{model: m}}}}
        """)
        config = place.load(AZURE_OPENAI_API_KEY="real", GATEWAY_KEY=CANARY)
        assert config.headers("m") == {"x-team": "agents", "x-gateway-key": CANARY}
        assert CANARY not in show(config) + repr(config)
        assert "GATEWAY_KEY" in show(config)

    @pytest.mark.parametrize(
        ("headers", "told"),
        [
            (
                f"headers: {{x-api-key: {CANARY}}}",
                "models.m.headers: has a header that may carry a secret; use headers_env",
            ),
            (f"headers: {{Authorization: {CANARY}}}", "models.m.headers: has a header that may carry a secret"),
            ("headers: {Content-Length: '5'}", "models.m.headers.Content-Length: this name must not be a header that"),
            ("headers: {'x y': z}", "models.m.headers.x y: this name must be the name of a header"),
            ('headers: {x-team: "a\\nb"}', "models.m.headers.x-team: must be 1 to 4096 printable"),
            (f"headers_env: {{x-key: {CANARY}}}", "models.m.headers_env: must map each header to the name of"),
            ("headers_env: {x-key: NOT_SET}", "models.m.headers_env.x-key: NOT_SET is not set"),
        ],
    )
    def test_that_could_not_be_sent_are_refused_without_being_repeated(
        self, place: Place, headers: str, told: str
    ) -> None:
        [problem] = problems_of(place, f"  m: {{provider: openai, model_id: x, {headers}}}\n")
        assert problem.startswith(f"config.yaml:2 {told}")
        assert CANARY not in problem

    def test_a_variable_that_cannot_be_sent_is_named_and_not_repeated(self, place: Place) -> None:
        models = "  m: {provider: openai, model_id: x, headers_env: {x-key: GATEWAY_KEY}}\n"
        [problem] = problems_of(place, models, GATEWAY_KEY=f"{CANARY}\u00e9")
        assert problem == (
            "environment GATEWAY_KEY: must be 1 to 4096 printable ASCII characters, without spaces around them"
        )

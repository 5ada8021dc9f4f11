"""What the configuration tells of itself stays true: `.env.example`, the example file, the schema, `show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from agent_service.config.describe import env_example, env_reference, json_schema, show
from agent_service.config.loader import load
from agent_service.config.schema import File
from agent_service.config.settings import variables

from .conftest import Place

ROOT = Path(__file__).parents[2]
CANARY = "canary-7f3a9c"


def test_env_example_is_what_the_settings_say() -> None:
    """Where this fails, write `env_example()` to the file."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()


def test_every_variable_is_described_in_a_sentence() -> None:
    for variable in env_reference():
        assert variable.description.endswith(".")
        assert variable.section
    assert [variable.name for variable in env_reference()] == list(variables())
    assert [variable.name for variable in env_reference() if variable.is_secret] == [
        "API_KEY",
        "OPENAI_API_KEY",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ]


def test_env_example_starts_development_as_it_is(place: Place) -> None:
    config = load({}, dotenv_path=ROOT / ".env.example")
    assert config.stand_ins == {"default"}
    assert config.settings.api_key is None


def test_the_values_of_env_example_are_the_defaults(place: Place) -> None:
    place.write((ROOT / ".env.example").read_text(encoding="utf-8").replace("\n#", "\n"), ".env.all")
    # Sentences become lines without a name; what is left are all the variables.
    text = "\n".join(line for line in Path(".env.all").read_text().splitlines() if line.split("=")[0] in variables())
    place.write(text, ".env")
    unset, all_set = load({}, dotenv_path=None), load({})
    assert all_set.settings == unset.settings
    assert all_set.models == unset.models


def test_the_example_file_is_valid_and_shows_every_setting(place: Place) -> None:
    path = ROOT / "docs" / "config.example.yaml"
    keys = {"OPENAI_API_KEY": "sk-real", "AZURE_OPENAI_API_KEY": "real"}
    config = load({"AGENT_SERVICE_CONFIG_PATH": str(path), **keys}, dotenv_path=None)
    assert not config.stand_ins
    text = path.read_text(encoding="utf-8")
    for definition in [json_schema(), *json_schema()["$defs"].values()]:
        for name in definition["properties"]:
            assert f"{name}:" in text


def test_the_values_of_the_example_file_are_the_defaults() -> None:
    tree = yaml.safe_load((ROOT / "docs" / "config.example.yaml").read_text(encoding="utf-8"))
    file = File.model_validate(tree)
    smart = file.models["smart"]
    given = {"name": "Smart", "provider": "openai", "model_id": "gpt-6.2-sol", "api_key_env": "OPENAI_API_KEY"}
    shown = {"fallbacks", "price"}
    assert smart.model_dump(exclude=shown) == smart.model_validate(given).model_dump(exclude=shown)
    other_than_default = {"model", "description", "instructions", "tools", "default", "approval"}
    told, default = (agent.model_dump(exclude=other_than_default) for agent in file.agents.values())
    assert told == default


def test_the_schema_is_json_and_closed() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["required"] == ["agents"]
    for definition in [schema, *schema["$defs"].values()]:
        assert definition["additionalProperties"] is False
    assert "class" in schema["$defs"]["Agent"]["properties"]


@pytest.mark.parametrize("environ", [{}, {"LLM_PROVIDER": "scripted"}, {"OPENAI_API_KEY": CANARY}])
def test_show_tells_what_is_in_effect_and_no_secret(place: Place, environ: dict[str, str]) -> None:
    text = show(place.load(environ, API_KEY=CANARY, API_PORT="1"))
    assert CANARY not in text
    shown = yaml.safe_load(text)
    assert shown["environment"]["API_PORT"] == 1
    assert shown["environment"]["API_KEY"] == "**********"
    assert shown["environment"].keys() == variables().keys()
    assert shown["models"]["default"]["provider"] == ("openai" if environ.get("OPENAI_API_KEY") else "scripted")
    assert shown["agents"]["assistant"]["default"] is True
    assert shown["rate_limits"][0]["name"] == "default"


def test_what_is_shown_can_be_written_to_a_file_again(place: Place) -> None:
    place.write("""\
        models:
          m: {provider: openai, model_id: x, price: {input: 0.15, output: 0.6}}
          s: {provider: scripted, price: {input: 0, output: 0}}
        agents:
          a: {model: m, tools: [echo], class: "my.agents:Planner", limits: {tokens: 5, cost: 0.1}}
          b: {model: s, default: true, timeout_max_s: 30}
        rate_limits: [{name: r, match: {agent: a}, per: [], max_calls: 3}]
        budgets: [{name: b, match: {tenant: acme}, per: [], period: day, max_cost: 12.5}]
        """)
    first = place.load()
    shown = yaml.safe_load(show(first))
    place.write(yaml.safe_dump({key: shown[key] for key in ("models", "agents", "rate_limits", "budgets", "tools")}))
    again = place.load()
    assert again.rate_limits == first.rate_limits
    assert again.budgets == first.budgets
    assert again.models == first.models
    assert again.default_agent == first.default_agent == "b"
    assert again.agents["a"] == first.agents["a"]

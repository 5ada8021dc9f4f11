"""The schema of an agent's answers, as its configuration has it."""

from __future__ import annotations

import pytest

from agent_service.errors import ConfigError

from .conftest import Place

MODEL = {"LLM_PROVIDER": "scripted"}

HEAD = """\
agents:
  a:
    model: default
    output_schema:
"""


def test_it_is_written_as_a_mapping(place: Place) -> None:
    place.write(f"{HEAD}      type: object\n      properties: {{total: {{type: number, minimum: 0}}}}\n")
    schema = place.load(MODEL).agents["a"].output_schema
    assert schema == {"type": "object", "properties": {"total": {"type": "number", "minimum": 0}}}


def test_it_may_be_as_deep_as_a_requests(place: Place) -> None:
    inner = "{}"
    for _ in range(14):
        inner = f"{{properties: {{a: {inner}}}}}"
    place.write(f"{HEAD}      {{type: object, properties: {{a: {inner}}}}}\n")
    assert place.load(MODEL).agents["a"].output_schema


def test_what_is_wrong_with_it_is_told_with_its_line(place: Place) -> None:
    place.write(
        f"{HEAD}      type: object\n      properties:\n        total: {{type: nummer}}\n"
        "        other:\n          $ref: http://example.com/x\n"
    )
    with pytest.raises(ConfigError) as refused:
        place.load(MODEL)
    (problem,) = refused.value.problems
    assert problem.startswith("config.yaml:7 agents.a.output_schema.properties.total.type: must be array, boolean, ")
    place.write(f"{HEAD}      type: object\n      properties:\n        other:\n          $ref: http://example.com/x\n")
    with pytest.raises(ConfigError) as refused:
        place.load(MODEL)
    assert refused.value.problems == (
        "config.yaml:8 agents.a.output_schema.properties.other.$ref: must be # or begin with #/: nothing outside of the"
        " schema is fetched",
    )


@pytest.mark.parametrize("schema", ["object", "[1]", "true"])
def test_it_is_no_text_and_no_list(place: Place, schema: str) -> None:
    place.write(f"agents:\n  a: {{model: default, output_schema: {schema}}}\n")
    with pytest.raises(ConfigError) as refused:
        place.load(MODEL)
    assert refused.value.problems == ("config.yaml:2 agents.a.output_schema: must be a mapping",)

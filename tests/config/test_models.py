"""What a configuration file says of models: what they can do, who stands in, what is sent along."""

from __future__ import annotations

import pytest

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

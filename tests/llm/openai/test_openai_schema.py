"""How the schema of a reply is told to a server, and when it may be called strict."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agent_service.llm.base import Capabilities, Message, ModelRequest, Role
from agent_service.llm.openai.strict import fits_strict
from tests.fakes.provider import FakeProvider, finish, stream, text
from tests.llm.conftest import MakeModel
from tests.llm.observer import RecordingObserver

STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}
ASKED = Message(Role.USER, "What is it?")


def request(schema: dict[str, Any], *messages: Message) -> ModelRequest:
    return ModelRequest(messages or (ASKED,), output_schema_json=orjson.dumps(schema).decode())


async def sent(
    provider: FakeProvider, make_model: MakeModel, asked: ModelRequest, observer: RecordingObserver, **settings: Any
) -> dict[str, Any]:
    provider.will(stream(text("{}"), finish()))
    await make_model(**settings).generate(asked, observer)
    return provider.requests[-1].body


@pytest.mark.parametrize(("more", "strict"), [({}, True), ({"minProperties": 1}, False)])
async def test_a_server_that_knows_schemas_is_sent_it_and_whether_it_is_strict(
    provider: FakeProvider, make_model: MakeModel, observer: RecordingObserver, more: dict[str, Any], strict: bool
) -> None:
    asked = request({**STRICT, **more})
    body = await sent(provider, make_model, asked, observer, capabilities=Capabilities(json_schema=True))
    described = {"name": "answer", "strict": strict, "schema": {**STRICT, **more}}
    assert body["response_format"] == {"type": "json_schema", "json_schema": described}
    assert body["messages"] == [{"role": "user", "content": "What is it?"}]


async def test_to_a_server_that_does_not_the_schema_is_an_instruction(
    provider: FakeProvider, make_model: MakeModel, observer: RecordingObserver
) -> None:
    system = Message(Role.SYSTEM, "Be brief.")
    for messages, before in (((ASKED,), ""), ((system, ASKED), "Be brief.\n\n")):
        unable = Capabilities(json_schema=False)
        body = await sent(provider, make_model, request(STRICT, *messages), observer, capabilities=unable)
        assert "response_format" not in body
        told, asked = body["messages"]
        assert told["role"] == "system"
        assert told["content"].startswith(f"{before}Answer with one JSON document")
        assert orjson.loads(told["content"].rpartition("\n")[2]) == STRICT
        assert asked == {"role": "user", "content": "What is it?"}


def of(schema: dict[str, Any]) -> dict[str, Any]:
    """A strict object with this one property."""
    return {"type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = of(schema)
    return schema


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (STRICT, True),
        (of({"type": ["string", "null"], "description": "d"}), True),
        (of({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}), True),
        (of({"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1}) | {"$defs": {"n": STRICT}}, True),
        (of({"enum": ["a", "b"]}), True),
        (deep(10), True),
        (deep(11), False),
        (STRICT | {"required": []}, False),
        ({key: STRICT[key] for key in ("type", "properties", "required")}, False),
        (STRICT | {"additionalProperties": {"type": "string"}}, False),
        (STRICT | {"anyOf": [STRICT]}, False),
        (of({"type": "string", "minLength": 1}), False),
        (of({"type": "string", "format": "uri"}), False),
        (of({"type": "string", "default": "a"}), False),
        (of({"oneOf": [{"type": "string"}]}), False),
        (of({"allOf": [{"type": "string"}]}), False),
        (of({"not": {"type": "string"}}), False),
        (of({"type": "object", "properties": {}}), False),
        (of({"type": "array", "items": False}), False),
        (of({"enum": [f"v{index}" for index in range(1001)]}), False),
        (of({"enum": ["x" * 120_001]}), False),
    ],
)
def test_a_schema_is_called_strict_only_where_openai_takes_it_so(schema: dict[str, Any], strict: bool) -> None:
    assert fits_strict(orjson.dumps(schema).decode()) is strict

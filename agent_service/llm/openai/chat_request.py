"""Encodes a ModelRequest as the JSON body of a Chat Completions request.

Schemas and arguments go into it as the exact text that they are: a conversation that is replayed is byte-identical.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from agent_service.llm.base import Capabilities, Message, ModelRequest, Role, ToolSpec
from agent_service.llm.degraded import readable
from agent_service.llm.openai.strict import fits_strict

_ALL = Capabilities()

# What OpenAI calls the schema by, and the model may read.
SCHEMA_NAME = "answer"
INSTRUCTION = (
    "Answer with one JSON document that fits this JSON Schema, and with nothing else:"
    " no words around it, no code fence."
)


def encode_request(request: ModelRequest, settings: dict[str, Any], capabilities: Capabilities = _ALL) -> bytes:
    """The body: `settings` (model, temperature, …), the messages, the tools if there are any, the wish for a stream.

    Of what the model is not capable of, there is nothing in it. A schema that the reply is to fit goes to the server as
    its `response_format` where that knows `json_schema`, else to the model as an instruction.

    Raises:
        TypeError: a text is not Unicode; those that come out of protobuf messages always are.
    """
    schema, messages = request.output_schema_json, readable(request.messages, capabilities)
    if schema and not capabilities.json_schema:
        messages = _with_instruction(messages, schema)
    body = settings | {"messages": [_message(message) for message in messages], "stream": True}
    if capabilities.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools and capabilities.tools:  # an empty list is an error to some servers
        body["tools"] = [_tool(spec) for spec in request.tools]
        if not capabilities.parallel_tools:
            body["parallel_tool_calls"] = False
    if schema and capabilities.json_schema:
        body["response_format"] = _response_format(schema)
    return orjson.dumps(body)


def _with_instruction(messages: Sequence[Message], schema: str) -> Sequence[Message]:
    """The messages, with the schema at the end of the instructions."""
    told = f"{INSTRUCTION}\n{schema}"
    if messages and messages[0].role is Role.SYSTEM:
        return [replace(messages[0], text=f"{messages[0].text}\n\n{told}"), *messages[1:]]
    return [Message(Role.SYSTEM, told), *messages]


def _response_format(schema: str) -> dict[str, Any]:
    """Strict where the schema is one that OpenAI takes as strict: its server refuses others, unless it need not be."""
    described = {"name": SCHEMA_NAME, "strict": fits_strict(schema), "schema": orjson.Fragment(schema)}
    return {"type": "json_schema", "json_schema": described}


def _message(message: Message) -> dict[str, Any]:
    if message.role is Role.TOOL:
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text}
    if not message.tool_calls:
        return {"role": message.role.value, "content": message.text}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
        for call in message.tool_calls
    ]
    return {"role": message.role.value, "content": message.text or None, "tool_calls": calls}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    parameters = orjson.Fragment(spec.input_schema_json)
    function = {"name": spec.name, "description": spec.description, "parameters": parameters}
    return {"type": "function", "function": function}

"""Encodes a ModelRequest as the JSON body of a Chat Completions request.

Schemas and arguments go into it as the exact text that they are: a conversation that is replayed is byte-identical.
"""

from __future__ import annotations

from typing import Any

import orjson

from agent_service.llm.base import Capabilities, Message, ModelRequest, Role, ToolSpec
from agent_service.llm.degraded import readable

_ALL = Capabilities()


def encode_request(request: ModelRequest, settings: dict[str, Any], capabilities: Capabilities = _ALL) -> bytes:
    """The body: `settings` (model, temperature, …), the messages, the tools if there are any, the wish for a stream.

    Of what the model is not capable of, there is nothing in it.

    Raises:
        TypeError: a text is not Unicode; those that come out of protobuf messages always are.
    """
    messages = readable(request.messages, capabilities)
    body = settings | {"messages": [_message(message) for message in messages], "stream": True}
    if capabilities.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools and capabilities.tools:  # an empty list is an error to some servers
        body["tools"] = [_tool(spec) for spec in request.tools]
        if not capabilities.parallel_tools:
            body["parallel_tool_calls"] = False
    return orjson.dumps(body)


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

"""Encodes a ModelRequest as the JSON body of a Chat Completions request.

Schemas and arguments are inserted as their exact text, so that a replayed conversation is byte-identical.
"""

from __future__ import annotations

from typing import Any

import orjson

from agent_service.llm.base import Message, ModelRequest, Role, ToolSpec
from agent_service.llm.openai.conversation import CallIds, messages_of, wire_name
from agent_service.llm.openai.provider_state import StateKeeper
from agent_service.llm.openai.request_settings import PassBack, RequestSettings
from agent_service.llm.openai.strict import fits_strict
from agent_service.schemas.call_arguments import object_text

Json = dict[str, Any]

# The name of the schema in requests; the model may read it.
SCHEMA_NAME = "answer"


class ChatRequests:
    """Encodes the requests of one model. `model_key` is its key in our own messages."""

    def __init__(self, settings: RequestSettings, keeper: StateKeeper, model_key: str) -> None:
        self._settings = settings
        self._keeper = keeper
        self._model_key = model_key
        self._fixed = _fixed(settings)

    def encode(self, request: ModelRequest) -> bytes:
        """Return the body: the settings, the messages, the tools if there are any, and the options of the stream.

        It uses no feature that the model lacks. A schema for the reply is sent as `response_format` if the server
        supports `json_schema`, else as an instruction to the model.

        Raises:
            TypeError: a text is not valid Unicode; texts of protobuf messages always are.
        """
        settings, capabilities, schema = self._settings, self._settings.capabilities, request.output_schema_json
        ids = CallIds(self._model_key)
        messages = [self._message(message, ids) for message in messages_of(request, capabilities)]
        body = self._fixed | {"messages": messages}
        if request.tools and capabilities.tools:  # an empty list is an error to some servers
            body["tools"] = [_tool(spec) for spec in request.tools]
            if not capabilities.parallel_tools:
                body["parallel_tool_calls"] = False
            if settings.effort is None and settings.effort_for_tools is not None:
                body["reasoning_effort"] = settings.effort_for_tools
        if schema and capabilities.json_schema:
            body["response_format"] = _response_format(schema)
        return orjson.dumps(body | dict(settings.extra_body))

    def _message(self, message: Message, ids: CallIds) -> Json:
        if message.role is Role.TOOL:
            return {"role": "tool", "tool_call_id": ids.of_result(message.tool_call_id), "content": message.text}
        # Some servers reject text of blanks alone, also beside calls.
        body: Json = {"role": message.role.value, "content": message.text if message.text.strip() else ""}
        if message.tool_calls:
            body["tool_calls"] = [
                {
                    "id": ids.of_call(message, call.id),
                    "type": "function",
                    "function": {"name": wire_name(call.name), "arguments": object_text(call.arguments_json)},
                }
                for call in message.tool_calls
            ]
        if message.role is Role.ASSISTANT and self._settings.pass_back is not PassBack.NEVER:
            self._pass_back(message, body)
        return body

    def _pass_back(self, message: Message, body: Json) -> None:
        """Add the opaque fields that came with the message."""
        fields = self._keeper.unpacked(message.provider_state)
        for name, value in fields.get("message", {}).items():
            body.setdefault(name, value)
        for call, kept in zip(body.get("tool_calls", ()), fields.get("calls", ()), strict=False):
            for name, value in kept.items():
                if name == "function":
                    call["function"] = value | call["function"]
                else:
                    call.setdefault(name, value)
        if self._settings.pass_back is PassBack.ALWAYS:
            body.setdefault("reasoning_content", "")


def _fixed(settings: RequestSettings) -> Json:
    """Return the fields that are the same in every request."""
    body: Json = {"model": settings.model_id, "stream": True}
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.max_tokens is not None:
        body[settings.max_tokens_parameter] = settings.max_tokens
    if settings.effort is not None:
        body["reasoning_effort"] = settings.effort
    if settings.capabilities.stream_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def _response_format(schema: str) -> Json:
    """Return the response format: strict if OpenAI accepts the schema as strict; it rejects others with that flag."""
    described = {"name": SCHEMA_NAME, "strict": fits_strict(schema), "schema": orjson.Fragment(schema)}
    return {"type": "json_schema", "json_schema": described}


def _tool(spec: ToolSpec) -> Json:
    parameters = orjson.Fragment(spec.input_schema_json)
    function = {"name": spec.name, "description": spec.description, "parameters": parameters}
    return {"type": "function", "function": function}

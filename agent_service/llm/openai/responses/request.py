"""Encodes a ModelRequest as the JSON body of a request to the Responses API.

Every request has the whole conversation, and the provider stores nothing: our journal is the state. A reply of the same
model is sent back as its original items, in their order, followed by the results of its calls; any other reply as its
text and calls. Calls without their items have no item id, because the provider would look an id up.
"""

from __future__ import annotations

from typing import Any

import orjson

from agent_service.llm.base import Message, ModelRequest, Role, ToolSpec
from agent_service.llm.openai.chat.request import SCHEMA_NAME
from agent_service.llm.openai.conversation import CallIds, messages_of, wire_name
from agent_service.llm.openai.provider_state import StateKeeper
from agent_service.llm.openai.request_settings import PassBack, RequestSettings
from agent_service.llm.openai.responses.output_items import CALL, REASONING
from agent_service.llm.openai.strict import fits_strict
from agent_service.schemas.call_arguments import object_text

Json = dict[str, Any]


class ResponsesRequests:
    """Encodes the requests of one model. `model_key` is its key in our own messages."""

    def __init__(self, settings: RequestSettings, keeper: StateKeeper, model_key: str) -> None:
        self._settings = settings
        self._keeper = keeper
        self._model_key = model_key
        self._fixed = _fixed(settings)

    def encode(self, request: ModelRequest) -> bytes:
        """Return the body: the settings, the instructions, the conversation, the tools if there are any.

        Raises:
            TypeError: a text is not valid Unicode; texts of protobuf messages always are.
        """
        settings, capabilities, schema = self._settings, self._settings.capabilities, request.output_schema_json
        body = dict(self._fixed)
        messages = messages_of(request, capabilities)
        if messages and messages[0].role is Role.SYSTEM:
            body["instructions"], messages = messages[0].text, messages[1:]
        ids = CallIds(self._model_key)
        body["input"] = [item for message in messages for item in self._items(message, ids)]
        if request.tools and capabilities.tools:
            body["tools"] = [_tool(spec) for spec in request.tools]
            body["parallel_tool_calls"] = capabilities.parallel_tools
        if schema and capabilities.json_schema:
            body["text"] = {"format": _format(schema)}
        if request.cache_key:
            body["prompt_cache_key"] = request.cache_key
        return orjson.dumps(body | dict(settings.extra_body))

    def _items(self, message: Message, ids: CallIds) -> list[Json]:
        if message.role is Role.TOOL:
            call_id = ids.of_result(message.tool_call_id)
            return [{"type": "function_call_output", "call_id": call_id, "output": message.text}]
        if items := self._own_items(message, ids):
            return items
        role = "developer" if message.role is Role.SYSTEM else message.role.value
        said: list[Json] = [{"role": role, "content": message.text}] if message.text.strip() else []
        return said + [
            {
                "type": CALL,
                "call_id": ids.of_call(message, call.id),
                "name": wire_name(call.name),
                "arguments": object_text(call.arguments_json),
            }
            for call in message.tool_calls
        ]

    def _own_items(self, message: Message, ids: CallIds) -> list[Json]:
        """Return the items of a reply of this model; [] if it is another model's, or its items are not available."""
        if self._settings.pass_back is PassBack.NEVER:
            return []
        kept: list[Json] = self._keeper.unpacked(message.provider_state).get("items", [])
        items = [_sendable(item) for item in kept if _is_complete(item)]
        calls = [item for item in items if item.get("type") == CALL]
        if len(items) < len(kept) or len(calls) != len(message.tool_calls):
            return []
        for item, call in zip(calls, message.tool_calls, strict=True):
            sent = item.get("call_id")
            if not isinstance(sent, str) or not sent:
                return []
            item["call_id"] = ids.take(call.id, sent)
            item["name"], item["arguments"] = wire_name(call.name), object_text(call.arguments_json)
        return items


def _is_complete(item: Json) -> bool:
    """Return whether an item can be sent back. The provider would look up reasoning that is only an id, but stores
    none.
    """
    return item.get("type") != REASONING or bool(item.get("encrypted_content") or item.get("content"))


def _sendable(item: Json) -> Json:
    """Return an item without the nulls that some servers write but do not accept, and with fields that reasoning
    needs.
    """
    item = {name: value for name, value in item.items() if value is not None}
    return {"summary": [], **item} if item.get("type") == REASONING else item


def _fixed(settings: RequestSettings) -> Json:
    """Return the fields that are the same in every request."""
    body: Json = {"model": settings.model_id, "stream": True, "store": False}
    if settings.encrypted_reasoning:
        body["include"] = ["reasoning.encrypted_content"]
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.max_tokens is not None:
        body["max_output_tokens"] = settings.max_tokens
    reasoning = {"effort": settings.effort, "summary": settings.summary}
    if given := {name: value for name, value in reasoning.items() if value is not None}:
        body["reasoning"] = given
    return body


def _format(schema: str) -> Json:
    """Return the text format: strict if OpenAI accepts the schema as strict; it rejects others with that flag."""
    return {
        "type": "json_schema",
        "name": SCHEMA_NAME,
        "strict": fits_strict(schema),
        "schema": orjson.Fragment(schema),
    }


def _tool(spec: ToolSpec) -> Json:
    parameters = orjson.Fragment(spec.input_schema_json)
    return {
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": parameters,
        "strict": False,  # otherwise OpenAI makes every argument required
    }

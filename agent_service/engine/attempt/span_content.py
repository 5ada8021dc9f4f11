"""Prompts, replies, arguments and results as attributes of spans. Used only if traces are configured to show content.

Attributes are JSON text in the form of the semantic conventions. Each text is cut, so that collectors accept the span.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from agent_service.llm.base import Message, ModelReply, Role
from agent_service.observe import semconv
from agent_service.observe.trace import Value
from agent_service.v1.task_event_pb2 import ToolFinished
from agent_service.v1.tool_pb2 import ToolCall

TEXT_MAX = 8192
MESSAGES_MAX = 50


def of_request(messages: Sequence[Message]) -> dict[str, Value]:
    """Return the attributes of a request: the last messages, and the instructions."""
    instructions = [_text(message.text) for message in messages if message.role is Role.SYSTEM]
    shown = [message for message in messages if message.role is not Role.SYSTEM][-MESSAGES_MAX:]
    attributes: dict[str, Value] = {semconv.INPUT_MESSAGES: _json([_message(message) for message in shown])}
    if instructions:
        attributes[semconv.SYSTEM_INSTRUCTIONS] = _json(instructions)
    return attributes


def of_reply(reply: ModelReply, finish: str) -> dict[str, Value]:
    """Return the attributes of a reply."""
    message = {"role": "assistant", "parts": _parts(reply.text, reply.tool_calls), "finish_reason": finish}
    return {semconv.OUTPUT_MESSAGES: _json([message])}


def of_arguments(call: ToolCall) -> dict[str, Value]:
    """Return the attributes of a call's arguments."""
    return {semconv.TOOL_ARGUMENTS: call.arguments_json[:TEXT_MAX]}


def of_result(finished: ToolFinished) -> dict[str, Value]:
    """Return the attributes of a call's result or error."""
    text = finished.error.message if finished.HasField("error") else finished.output_json
    return {semconv.TOOL_RESULT: text[:TEXT_MAX]}


def _message(message: Message) -> dict[str, Any]:
    if message.role is Role.TOOL:
        result = {"type": "tool_call_response", "id": message.tool_call_id, "result": message.text[:TEXT_MAX]}
        return {"role": "tool", "parts": [result]}
    return {"role": message.role.value, "parts": _parts(message.text, message.tool_calls)}


def _parts(text: str, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    parts = [_text(text)] if text else []
    return parts + [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments_json[:TEXT_MAX]}
        for call in calls
    ]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text[:TEXT_MAX]}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()

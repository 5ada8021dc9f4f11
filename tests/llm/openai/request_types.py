"""The requests that OpenAI's package has types for, checked to the letter."""

from __future__ import annotations

from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter
from pydantic_core import SchemaValidator


def exact(type_: Any) -> SchemaValidator:
    """A validator of a TypedDict that takes nothing else: no key beside those that it names, at any depth, and no value
    of another type. What the package calls an Iterable is a list in JSON, which is looked into.
    """
    return SchemaValidator(_exact(TypeAdapter(type_).core_schema))


def _exact(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(_exact(one) for one in schema)
    if not isinstance(schema, dict):
        return schema
    found = {name: value if name == "metadata" else _exact(value) for name, value in schema.items()}
    match found.get("type"):
        case "typed-dict":
            found |= {"extra_behavior": "forbid"}
        case "generator":
            found |= {"type": "list"}
        case "str" | "int" | "bool":
            found |= {"strict": True}
    return found


CHAT_REQUEST = exact(CompletionCreateParamsStreaming)
RESPONSES_REQUEST = exact(ResponseCreateParamsStreaming)

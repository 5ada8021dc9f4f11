"""Normalises the tool arguments of a model to the JSON text of an object."""

from __future__ import annotations

import orjson

from agent_service.schemas.output_schema import document_in

NONE = "{}"
# PHP writes an empty object as a list; the last two are the null values of Python and JavaScript.
_NOTHING = frozenset({"", "null", "[]", '""', "None", "undefined"})


def meant(arguments_json: str) -> str:
    """Return the text without surrounding blanks and code fence, `{}` for empty arguments, and an object that was
    encoded twice decoded once. A text that is no object is returned unchanged.
    """
    text = arguments_json.strip()
    if text.startswith("```"):
        text = document_in(text)
    if text.startswith('"'):
        try:
            inner = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        inner = inner.strip()
        text = inner if inner in _NOTHING or inner.startswith("{") else text
    return NONE if text in _NOTHING else text


def object_text(arguments_json: str) -> str:
    """Return the text of a JSON object for any arguments: `{}` if they are no object, unchanged if they are."""
    for text in (arguments_json, meant(arguments_json)):
        try:
            if isinstance(orjson.loads(text), dict):
                return text
        except orjson.JSONDecodeError:
            continue
    return NONE

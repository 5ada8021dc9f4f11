"""The arguments that a model gives a tool, as JSON text: what text of an object they mean."""

from __future__ import annotations

import orjson

from agent_service.schemas.output_schema import document_in

NONE = "{}"
# PHP writes an empty object as a list; the last two are what Python and JavaScript call nothing.
_NOTHING = frozenset({"", "null", "[]", '""', "None", "undefined"})


def meant(arguments_json: str) -> str:
    """The text with its blanks and its code fence gone, `{}` where it says that there are none, and an object that was
    encoded twice decoded once. A text that means no object stays as it is.
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
    """The text of a JSON object, whatever the arguments are: `{}` where they are none. One that is stays byte-exact."""
    for text in (arguments_json, meant(arguments_json)):
        try:
            if isinstance(orjson.loads(text), dict):
                return text
        except orjson.JSONDecodeError:
            continue
    return NONE

"""The arguments that a model gives a tool, as JSON text: what text of an object they mean."""

from __future__ import annotations

import orjson

NONE = "{}"
_NOTHING = frozenset({"", "null", "[]", '""'})  # PHP writes an empty object as a list


def meant(arguments_json: str) -> str:
    """The text with its blanks gone, `{}` where it says that there are none, and an object that was encoded twice
    decoded once. A text that means no object stays as it is.
    """
    text = arguments_json.strip()
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

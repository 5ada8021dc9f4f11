"""What the strict provider refuses, in the shape of OpenAI's errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

Json = dict[str, Any]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class Refusal(Exception):
    """A request that is refused. `str` is the message."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status

    @property
    def body(self) -> Json:
        error = {"message": str(self), "type": "invalid_request_error", "param": self.param, "code": self.code}
        return {"error": error}


def refuse_unknown(given: Iterable[str], known: frozenset[str], where: str = "") -> None:
    for name in given:
        if name not in known:
            param = f"{where}.{name}" if where else name
            raise Refusal(f"Unknown parameter: '{param}'.", param, "unknown_parameter")


def refuse_temperature(body: Json) -> None:
    if "temperature" in body:
        told = "Unsupported parameter: 'temperature' is not supported with this model."
        raise Refusal(told, "temperature", "unsupported_parameter")


def check_name(name: object, param: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        told = f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern"
        raise Refusal(f"{told} '^[a-zA-Z0-9_-]+$', of at most 64 characters.", param, "invalid_value")


def check_text(text: object, param: str, *, may_be_empty: bool = False) -> None:
    """A content is text, or a list of parts that have some."""
    if isinstance(text, list) and text and all(isinstance(part, dict) and part.get("text") for part in text):
        return
    if not isinstance(text, str):
        what = "null" if text is None else f"a {type(text).__name__}"
        raise Refusal(f"Invalid value for '{param}': expected a string, got {what}.", param)
    if not text and not may_be_empty:
        raise Refusal(f"Invalid '{param}': empty string.", param, "empty_string")


def check_arguments(arguments: object, param: str) -> None:
    """Arguments are the text of a JSON object."""
    if not is_object(arguments):
        raise Refusal(f"Invalid '{param}': function arguments must be the text of a JSON object.", param)


def is_object(text: object) -> bool:
    try:
        return isinstance(text, str) and isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False

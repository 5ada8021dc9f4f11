"""Formats pydantic's errors as text that does not repeat the value, because a misplaced value may be a secret."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_NONE: Mapping[str, str] = MappingProxyType({})

# By the type of pydantic's error; `{}` fields come from its context.
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "is missing",
        "extra_forbidden": "is not known",
        "empty": "must not be empty",
        "string_type": "must be text",
        "string_unicode": "is not valid Unicode",
        "string_too_short": "must have at least {min_length} characters",
        "string_too_long": "must have at most {max_length} characters",
        "string_pattern_mismatch": "must match {pattern}",
        "int_type": "must be a whole number",
        "int_parsing": "must be a whole number",
        "int_parsing_size": "is too large",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "float_parsing": "must be a number",
        "finite_number": "must be a finite number",
        "bool_type": "must be true or false",
        "bool_parsing": "must be true or false",
        "literal_error": "must be {expected}",
        "greater_than": "must be more than {gt}",
        "greater_than_equal": "must be at least {ge}",
        "less_than": "must be less than {lt}",
        "less_than_equal": "must be at most {le}",
        "model_type": "must be a mapping",
        "dict_type": "must be a mapping",
        "list_type": "must be a list",
        "tuple_type": "must be a list",
        "too_short": "must have at least {min_length} entries",
        "too_long": "must have at most {max_length} entries",
        "value_error": "{error}",
    }
)


def in_words(error: Any, words: Mapping[str, str] = _NONE, *, otherwise: str = "") -> str:
    """Return one of pydantic's error details as the predicate of a sentence about the place of the error.

    `words` override the general texts. Errors in neither are `otherwise`, or pydantic's message, which for some types
    (`union_tag_invalid`) repeats the value.
    """
    kind = error["type"]
    if kind in ("too_short", "string_too_short") and error["ctx"]["min_length"] == 1:
        kind = "empty"
    form = words.get(kind) or _WORDS.get(kind)
    if form is None:
        return otherwise or _as_predicate(str(error["msg"]))
    context = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value  # 60, not 60.0
        for name, value in error.get("ctx", {}).items()
    }
    return form.format_map(context)


def _as_predicate(message: str) -> str:
    """Return `must be a valid date` for `Input should be a valid date`."""
    head = "Input should "
    if message.startswith(head):
        return "must " + message.removeprefix(head)
    return message[:1].lower() + message[1:]

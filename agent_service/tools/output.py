"""A tool's result as JSON text, bounded.

orjson encodes the types that it supports. In addition, a `Decimal` is a JSON number with exactly its digits (`1.50`
stays `1.50`), an integer of any size is a number, pydantic models are objects, sets and named tuples are arrays, and
pydantic encodes other types (paths, bytes that are UTF-8, timedeltas, …).
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Awaitable, Iterator
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from agent_service.errors import ToolError
from agent_service.tools.base import OUTPUT_BYTES_MAX
from agent_service.tools.toolset import ToolResult

NOT_FINITE = "the tool's result holds NaN or an infinity, which JSON cannot express"
INT_64_BIT = range(-(2**63), 2**64)


def encode(value: object) -> ToolResult:
    """Encode a result as JSON text of at most OUTPUT_BYTES_MAX bytes.

    A result that is too large becomes a JSON string: the beginning of that text (of the string itself, if it is one),
    cut between code points, and a line that says so.

    Raises:
        ToolError: TOOL_FAILED, it contains a value that JSON cannot express; the message names its type.
    """
    text = _dump(value)
    if len(text) <= OUTPUT_BYTES_MAX:
        return ToolResult(text.decode())
    return ToolResult(_beginning(value.encode() if isinstance(value, str) else text), truncated=True)


def _dump(value: object) -> bytes:
    try:
        text = orjson.dumps(value, default=_known_to_json, option=orjson.OPT_NON_STR_KEYS)
        # orjson writes NaN as null, so a result with a null is checked again.
        return _dump_checked(value) if b"null" in text else text
    except TypeError as error:  # orjson's own error is a TypeError
        if "64-bit" not in str(error):
            raise _unwritable(error) from None
    return _dump_checked(value)


def _dump_checked(value: object) -> bytes:
    try:
        return orjson.dumps(_checked(value), default=_known_to_json, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError) as error:
        raise _unwritable(error) from None


def _unwritable(error: Exception) -> ToolError:
    if isinstance(error.__cause__, ToolError):  # it comes from `_known_to_json`
        return error.__cause__
    # orjson's message names types, never values.
    return ToolError(f"the tool's result cannot be written as JSON: {error}")


def _known_to_json(value: Any) -> Any:
    """Convert a value that orjson does not support into one that it does."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ToolError(NOT_FINITE)
        return orjson.Fragment(str(value))
    if isinstance(value, BaseModel):
        return _dumped(value)
    if isinstance(value, (set, frozenset, tuple, deque)):
        return list(value)
    if isinstance(value, (Iterator, Awaitable)):
        # Pydantic would consume an iterator, which may be infinite.
        raise TypeError
    return to_jsonable_python(value)


def _checked(value: Any) -> Any:
    """Return the same value, with integers that are too large for orjson as text. Rejects NaN and infinities."""
    match value:
        case float():
            if not math.isfinite(value):
                raise ToolError(NOT_FINITE)
        case bool() | Enum():
            return _checked(value.value) if isinstance(value, Enum) else value
        case int() if value not in INT_64_BIT:
            return orjson.Fragment(_digits(value))
        case dict():
            return {key: _checked(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() | deque():
            return [_checked(item) for item in value]
        case BaseModel():
            return _checked(_dumped(value))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return {name: _checked(getattr(value, name)) for name in names if not name.startswith("_")}
    return value


def _dumped(value: BaseModel) -> dict[str, Any]:
    # A model with values of other types than its fields would warn; here it only matters that they are JSON.
    return value.model_dump(warnings="none")


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise ToolError("the tool's result holds an integer with too many digits") from None


def _beginning(source: bytes) -> str:
    """Return a JSON string of at most OUTPUT_BYTES_MAX bytes with the beginning of `source`, which is UTF-8."""
    keep = OUTPUT_BYTES_MAX
    while True:
        # "ignore" drops the code point that was cut in two.
        head = source[:keep].decode(errors="ignore")
        text = orjson.dumps(f"{head}\n[cut here: this was the beginning of {len(source)} bytes]")
        if len(text) <= OUTPUT_BYTES_MAX:
            return text.decode()
        # The growth by escapes is known only after encoding.
        keep = min(keep - 1, keep * OUTPUT_BYTES_MAX // len(text))

"""Decides whether OpenAI accepts a JSON Schema as strict, and so guarantees that replies follow it.

The subset is in its guide to structured outputs: every property required, no additional ones allowed, few keywords, and
bounds on the whole. OpenAI rejects any other schema that is marked strict; without the mark the model follows it as
well as it can. A feature that is not known to be accepted counts as not accepted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from agent_service.schemas.keywords import Path, children, every_schema

_TAKEN = frozenset(
    (
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    )
)
_FORMATS = frozenset(
    (
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "time",
        "uuid",
    )
)

PROPERTIES_MAX = 5000
ENUM_VALUES_MAX = 1000
NAMES_CHARACTERS_MAX = 120_000
LEVELS_MAX = 10


@lru_cache(maxsize=64)  # for a task with ten requests, and for agents' schemas; a text is at most 64 KiB
def fits_strict(schema_json: str) -> bool:
    """Return whether the schema, as text, may be marked strict."""
    root = orjson.loads(schema_json)
    root.pop("$schema", None)
    found = list(every_schema(root))
    if "anyOf" in root or _levels(root) > LEVELS_MAX or not all(_is_taken(path, each) for path, each in found):
        return False
    schemas = [each for _, each in found if isinstance(each, dict)]
    names = [name for each in schemas for name in (*each.get("properties", ()), *each.get("$defs", ()))]
    values = [value for each in schemas for value in each.get("enum", [each["const"]] if "const" in each else ())]
    if len(names) > PROPERTIES_MAX or len(values) > ENUM_VALUES_MAX:
        return False
    return sum(map(len, names)) + sum(len(str(value)) for value in values) <= NAMES_CHARACTERS_MAX


def _is_taken(path: Path, schema: Any) -> bool:
    """Return whether the schema, without its subschemas, is within the subset."""
    if not isinstance(schema, dict):
        return schema is False and path[-1] == "additionalProperties"
    if not _TAKEN.issuperset(schema) or schema.get("format", "date") not in _FORMATS:
        return False
    if "object" in _types(schema) or "properties" in schema:
        closed = schema.get("additionalProperties") is False
        return closed and set(schema.get("required", ())) == set(schema.get("properties", ()))
    return True


def _types(schema: dict[str, Any]) -> list[str]:
    named = schema.get("type", [])
    return named if isinstance(named, list) else [named]


def _levels(schema: Any) -> int:
    """Return the nesting depth of objects and arrays, without following references."""
    inner = max((_levels(child) for _, child in children(schema)), default=0)
    is_nested = isinstance(schema, dict) and ("properties" in schema or "items" in schema)
    return inner + is_nested

"""Finds the subschemas of a JSON Schema, and names them. Knows the keywords of draft 2020-12, not values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent_service.text import paths

# A subschema, several in a list, several by name.
_ONE = frozenset(
    (
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
_LIST = frozenset(
    (
        "allOf",
        "anyOf",
        "oneOf",
        "prefixItems",
    )
)
_NAMED = frozenset(
    (
        "$defs",
        "definitions",
        "dependentSchemas",
        "patternProperties",
        "properties",
    )
)

PATH_CHARACTERS_MAX = 64

Path = tuple[str | int, ...]


def children(schema: Any) -> Iterator[tuple[Path, Any]]:
    """Yield the direct subschemas of a schema, each with its path."""
    if not isinstance(schema, dict):
        return
    for keyword, argument in schema.items():
        if keyword in _ONE:
            yield (keyword,), argument
        elif keyword in _LIST and isinstance(argument, list):
            yield from (((keyword, index), item) for index, item in enumerate(argument))
        elif keyword in _NAMED and isinstance(argument, dict):
            yield from (((keyword, name), item) for name, item in argument.items())


def every_schema(schema: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield a schema and all its subschemas in the order of the text. The caller bounds the depth, and so the
    recursion.
    """
    yield path, schema
    for steps, child in children(schema):
        yield from every_schema(child, path + steps)


def pointer(path: Path) -> str:
    """Return `#/properties/a~1b` for ("properties", "a/b")."""
    return "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def by_pointer(schema: Any) -> Mapping[str, Any]:
    """Return every subschema of a schema by the pointer that `$ref` uses for it."""
    return {pointer(path): each for path, each in every_schema(schema)}


def dotted(path: Path) -> str:
    """Return `items[0].price` for ("items", 0, "price"); long steps are truncated."""
    return paths.dotted(path, lambda name: f".{name[:PATH_CHARACTERS_MAX]}")

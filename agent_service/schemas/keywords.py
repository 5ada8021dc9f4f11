"""Where a JSON Schema has schemas inside it, and how to name them. Knows the words of draft 2020-12 and no values."""

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
    """The schemas directly inside a schema, each with the steps that lead to it."""
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
    """A schema and all inside it, in the order of the text. Its recursion is bounded by the caller's depth."""
    yield path, schema
    for steps, child in children(schema):
        yield from every_schema(child, path + steps)


def pointer(path: Path) -> str:
    """`#/properties/a~1b` for ("properties", "a/b")."""
    return "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def by_pointer(schema: Any) -> Mapping[str, Any]:
    """Every schema in a schema by the pointer that `$ref` names it with."""
    return {pointer(path): each for path, each in every_schema(schema)}


def dotted(path: Path) -> str:
    """`items[0].price` for ("items", 0, "price"); a step that is long is cut."""
    return paths.dotted(path, lambda name: f".{name[:PATH_CHARACTERS_MAX]}")

"""Admission of JSON Schemas: a schema must be valid, self-contained, and cheap to validate answers with.

Schemas are untrusted input. So a schema may refer only to itself (nothing is ever fetched), its patterns run in linear
time, and its size when expanded along its references is bounded: thirty definitions that each refer to the next one
twice would otherwise cost a billion checks of one value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from agent_service.schemas.keywords import Path, by_pointer, children, every_schema

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

BYTES_MAX = 64 * 1024
DEPTH_MAX = 32
UNFOLDED_MAX = 20_000
PATTERNS_MAX = 256
PATTERN_BYTES_MAX = 100_000  # of a compiled pattern. 2,000 of these block for more than a second to compile
FLAWS_MAX = 32

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TYPES = "array, boolean, integer, null, number, object or string"

# Keywords that change the meaning of references.
_FOREIGN = ("$dynamicRef", "$recursiveRef", "$vocabulary")


@dataclass(frozen=True, slots=True)
class Flaw:
    """A problem of a schema, and its place in it."""

    path: Path
    text: str


def options() -> Mapping[str, Any]:
    """Return the options of every compilation: offline, in linear time, formats checked, no value in a message."""
    from jsonschema_rs import RegexOptions

    pattern_options = RegexOptions(size_limit=PATTERN_BYTES_MAX)
    return {"offline": True, "validate_formats": True, "pattern_options": pattern_options, "mask": "it"}


def bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without its `$schema` and `$id`, which would change the meaning of its references."""
    return {keyword: argument for keyword, argument in schema.items() if keyword not in ("$id", "$schema")}


def flaws(schema: Mapping[str, Any]) -> list[Flaw]:
    """Return the problems that prevent the use of a schema, at most FLAWS_MAX."""
    try:
        text = orjson.dumps(schema)
    except (TypeError, orjson.JSONEncodeError):  # nested more deeply than the library accepts, or not Unicode
        return [Flaw((), f"must be JSON, nested at most {DEPTH_MAX} levels deep")]
    if len(text) > BYTES_MAX:
        return [Flaw((), f"must be at most {BYTES_MAX // 1024} KiB as JSON text")]
    if _depth(schema) > DEPTH_MAX:
        return [Flaw((), f"must be nested at most {DEPTH_MAX} levels deep")]
    found = [*_grammar(schema), *_root(schema)]
    if not found:
        found = [*_references(schema)] or [*_size(schema)] or [*_compilation(schema)]
    return found[:FLAWS_MAX]


def _depth(value: Any) -> int:
    """Return the nesting depth of objects and arrays. Its recursion is bounded, because the schema is JSON already."""
    level, deepest = [value], 0
    while level := [each for each in level if isinstance(each, (dict, list))]:
        deepest += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return deepest


def _root(schema: Mapping[str, Any]) -> Iterator[Flaw]:
    if schema.get("type") != "object":
        yield Flaw(("type",), "must be object at the root")
    draft = schema.get("$schema", DRAFT)
    if not isinstance(draft, str) or draft.removesuffix("#") != DRAFT:
        yield Flaw(("$schema",), f"must be {DRAFT}, or be omitted")


def _grammar(schema: Mapping[str, Any]) -> Iterator[Flaw]:
    """Yield the problems that the draft's own schema finds."""
    reported = set()
    for error in _draft().iter_errors(bare(schema)):
        path = tuple(error.instance_path)
        if path not in reported:
            reported.add(path)
            yield Flaw(path, _in_words(path, error))


@cache
def _draft() -> Draft202012Validator:
    from jsonschema_rs import Draft202012Validator

    return Draft202012Validator({"$ref": DRAFT}, offline=True, mask="it")


def _in_words(path: Path, error: ValidationError) -> str:
    """Return the message without the value, which is the caller's data."""
    schema, keyword = error.schema_path, error.schema_path[-1] if error.schema_path else ""
    if (path and path[-1] == "type") or (len(path) > 1 and path[-2] == "type"):
        return f"must be {TYPES}, or a list of these, each once"
    if keyword == "type" and "object" in error.message and "boolean" in error.message:
        return "must be a schema: an object, true or false"
    if schema:
        return error.message.replace("it is", "is", 1).replace("is not of type", "must be of type")
    return error.message


def _references(schema: Mapping[str, Any]) -> Iterator[Flaw]:
    known = by_pointer(schema)
    for path, each in every_schema(schema):
        if not isinstance(each, dict):
            continue
        if path and "$id" in each:
            yield Flaw((*path, "$id"), "is not supported below the root")
        yield from (Flaw((*path, word), "is not supported") for word in _FOREIGN if word in each)
        named = each.get("$ref")
        if named is None:
            continue
        if not named.startswith("#") or named[1:2] not in ("", "/") or "%" in named:
            yield Flaw((*path, "$ref"), "must be # or begin with #/: nothing outside of the schema is fetched")
        elif named not in known:
            yield Flaw((*path, "$ref"), "refers to no subschema of this schema")


def _size(schema: Mapping[str, Any]) -> Iterator[Flaw]:
    """Check the size of the schema when expanded along its references. A recursive reference counts as one
    subschema.
    """
    known = by_pointer(schema)
    sizes: dict[int, int] = {}

    def size(each: Any, around: frozenset[int]) -> int:
        if not isinstance(each, dict) or id(each) in around:
            return 1
        if id(each) not in sizes:
            around |= {id(each)}
            inner = [child for steps, child in children(each) if steps[0] not in ("$defs", "definitions")]
            if "$ref" in each:
                inner.append(known[each["$ref"]])
            sizes[id(each)] = min(1 + sum(size(part, around) for part in inner), UNFOLDED_MAX + 1)
        return sizes[id(each)]

    try:
        unfolded = size(schema, frozenset())
    except RecursionError:  # a long chain of references
        unfolded = UNFOLDED_MAX + 1
    patterns = sum(_patterns_in(each) for each in known.values())
    if patterns > PATTERNS_MAX:
        yield Flaw((), f"must have at most {PATTERNS_MAX} patterns")
    if unfolded > UNFOLDED_MAX:
        yield Flaw((), f"must have at most {UNFOLDED_MAX} subschemas when it is expanded along its $refs")


def _patterns_in(schema: Any) -> int:
    if not isinstance(schema, dict):
        return 0
    return ("pattern" in schema) + len(schema.get("patternProperties", ()))


def _compilation(schema: Mapping[str, Any]) -> Iterator[Flaw]:
    """Yield the problems that only compilation finds: patterns, of which the first is reported."""
    from jsonschema_rs import Draft202012Validator, ValidationError

    try:
        Draft202012Validator(bare(schema), **options())
    except ValidationError as error:
        path = tuple(error.instance_path)
        if "pattern" in path or "patternProperties" in path:
            message = "must be a regular expression of moderate size without look-around and back-references"
        else:
            message = error.message
        yield Flaw(path, message)

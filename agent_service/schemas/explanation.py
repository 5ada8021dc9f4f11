"""Explains how a value violates its schema, in words that a model can act on and that reveal nothing of the value.

The validation library can list errors too, but only all of them at once, with copies of the values: for nested
alternatives that takes unbounded time. So this module walks down to the violations itself, validates each step with the
library, and stops after VIOLATIONS_MAX findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from agent_service.errors import FieldViolation
from agent_service.schemas.flaws import options
from agent_service.schemas.keywords import Path, by_pointer, dotted, pointer

VIOLATIONS_MAX = 8
ARGUMENT_CHARACTERS_MAX = 120
INEXACT = "does not fit the schema"

# Keywords that concern a value itself, not its parts.
_ALONE = frozenset(
    (
        "const",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "type",
        "uniqueItems",
    )
)


def explain(schema: Mapping[str, Any], value: Any) -> list[FieldViolation]:
    """Return the violations of a value that does not fit the schema: at least one, and at most VIOLATIONS_MAX."""
    explanation = _Explanation(schema)
    explanation.look("#", value, ())
    exact = [(path, text) for path, text in explanation.found if text != INEXACT]
    return [FieldViolation(dotted(path), text) for path, text in exact or explanation.found[:1]]


class _Explanation:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        from jsonschema_rs import validator_map_for

        self.found: list[tuple[Path, str]] = []
        self._schemas = by_pointer(schema)
        # The default draft of a schema without `$schema`.
        self._validators = validator_map_for(dict(schema), **options())
        self._seen: set[tuple[str, Path]] = set()

    def look(self, place: str, value: Any, path: Path) -> None:
        """Collect the violations of the value at `path` against the schema at `place`."""
        if len(self.found) >= VIOLATIONS_MAX or (place, path) in self._seen:
            return
        if self._validators[place].is_valid(value):
            return
        self._seen.add((place, path))
        before, schema = len(self.found), self._schemas[place]
        if isinstance(schema, dict):
            for keyword, argument in schema.items():
                self._judge(place, keyword, argument, value, path)
        if len(self.found) == before:
            self._tell(path, INEXACT)

    def _judge(self, place: str, keyword: str, argument: Any, value: Any, path: Path) -> None:
        if keyword in _ALONE:
            if not self._fits_alone(keyword, argument, value):
                self._tell(path, f"must have {keyword} {_short(argument)}" if keyword != "type" else _type(argument))
            return
        match keyword:
            case "$ref":
                self.look(argument, value, path)
            case "allOf":
                for index in range(len(argument)):
                    self.look(f"{place}/allOf/{index}", value, path)
            case "anyOf" | "oneOf":
                self._alternatives(f"{place}/{keyword}", argument, value, path)
            case "required" if isinstance(value, dict):
                for name in argument:
                    if name not in value:
                        self._tell((*path, name), "is missing")
            case "properties" if isinstance(value, dict):
                for name in argument:
                    if name in value:
                        self.look(place + pointer(("properties", name))[1:], value[name], (*path, name))
            case "additionalProperties" if isinstance(value, dict) and "patternProperties" not in self._schemas[place]:
                known = self._schemas[place].get("properties", {})
                for name in value:
                    if name not in known:
                        self._additional(f"{place}/{keyword}", argument, value[name], (*path, name))
            case "prefixItems" if isinstance(value, list):
                for index in range(min(len(argument), len(value))):
                    self.look(f"{place}/prefixItems/{index}", value[index], (*path, index))
            case "items" if isinstance(value, list):
                start = len(self._schemas[place].get("prefixItems", ()))
                for index in range(start, len(value)):
                    self.look(f"{place}/items", value[index], (*path, index))

    def _additional(self, place: str, argument: Any, value: Any, path: Path) -> None:
        if argument is False:
            self._tell(path, "is not in the schema")
        else:
            self.look(place, value, path)

    def _alternatives(self, place: str, argument: list[Any], value: Any, path: Path) -> None:
        places = [f"{place}/{index}" for index in range(len(argument))]
        fitting = sum(self._validators[each].is_valid(value) for each in places)
        if fitting:  # anyOf accepts any number of them, oneOf exactly one
            if fitting > 1 and place.endswith("/oneOf"):
                self._tell(path, f"fits {fitting} of the alternatives of oneOf, and must fit one")
            return
        meant = [each for each in places if self._is_meant(each, value)]
        if len(meant) == 1:
            self.look(meant[0], value, path)
        else:
            self._tell(path, f"fits none of the {len(argument)} alternatives of {place.rpartition('/')[2]}")

    def _is_meant(self, place: str, value: Any) -> bool:
        """Return whether an alternative has the value's type and constants, such as the name of a variant."""
        schema = self._schemas[place]
        for _ in range(8):  # a chain of this many references is enough to follow
            if not isinstance(schema, dict) or "$ref" not in schema:
                break
            schema = self._schemas[schema["$ref"]]
        if not isinstance(schema, dict) or not self._fits_alone("type", schema.get("type"), value):
            return False
        properties = schema.get("properties", {}) if isinstance(value, dict) else {}
        return all(
            self._fits_alone(keyword, each.get(keyword), value[name])
            for name, each in properties.items()
            if name in value and isinstance(each, dict)
            for keyword in ("const", "enum")
            if keyword in each
        )

    def _fits_alone(self, keyword: str, argument: Any, value: Any) -> bool:
        from jsonschema_rs import Draft202012Validator

        if argument is None and keyword != "const":
            return True
        return Draft202012Validator({keyword: argument}, **options()).is_valid(value)

    def _tell(self, path: Path, text: str) -> None:
        if len(self.found) < VIOLATIONS_MAX:
            self.found.append((path, text))


def _short(argument: Any) -> str:
    text = orjson.dumps(argument).decode()
    return text if len(text) <= ARGUMENT_CHARACTERS_MAX else text[:ARGUMENT_CHARACTERS_MAX] + "…"


def _type(argument: Any) -> str:
    return f"must be of type {' or '.join(argument) if isinstance(argument, list) else argument}"

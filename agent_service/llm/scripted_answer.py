"""Generates a value that fits a JSON Schema from a text: the scripted model's answer if the request has a schema.

Numbers are those of the text, the last one first; strings are the text. The value may not fit a schema that asks for
more than that, such as a pattern; the caller's validation reports it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

# Below this level only required properties are filled in, and further down nothing: schemas may be recursive.
LEVELS_FULL = 4
LEVELS_MAX = 16
NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")


def answer_of(schema_json: str, text: str) -> str:
    """Return the text as a JSON document by the schema; unchanged if it looks like a document already."""
    if text.lstrip().startswith(("{", "[", "```")):
        return text
    schema = orjson.loads(schema_json)
    return orjson.dumps(_Sample(schema, text).value(schema, 0)).decode()


class _Sample:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text
        self._numbers = [float(number) for number in NUMBER.findall(text)]

    def value(self, schema: Any, level: int) -> Any:
        """Return a value for a schema, `level` schemas below the root."""
        if not isinstance(schema, dict) or level > LEVELS_MAX:
            return None
        for keyword in ("const", "default"):
            if keyword in schema:
                return schema[keyword]
        if schema.get("enum"):
            return next((each for each in schema["enum"] if str(each) in self._text), schema["enum"][0])
        if "$ref" in schema:
            return self.value(self._named(schema["$ref"]), level + 1)
        for keyword in ("anyOf", "oneOf", "allOf"):
            if schema.get(keyword) and "properties" not in schema:
                return self.value({**schema[keyword][0], **_without(schema, keyword)}, level + 1)
        return self._of_type(schema, level)

    def _of_type(self, schema: dict[str, Any], level: int) -> Any:
        named = schema.get("type", "object" if "properties" in schema else "string")
        match named[0] if isinstance(named, list) else named:
            case "object":
                wanted = schema.get("required", ()) if level > LEVELS_FULL else schema.get("properties", ())
                names = dict.fromkeys([*wanted, *schema.get("required", ())])
                properties = schema.get("properties", {})
                return {name: self.value(properties.get(name, {}), level + 1) for name in names}
            case "array":
                item = schema.get("items", {})
                least = schema.get("minItems", 0 if level > LEVELS_FULL else 1)
                return [self.value(item, level + 1) for _ in range(min(least, 100))]
            case "integer" | "number" as kind:
                return self._number(schema, kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
        return self._text[: schema.get("maxLength", len(self._text))]

    def _number(self, schema: dict[str, Any], is_integer: bool) -> float | int:
        """Return the last number of the text that is within the bounds, or the lowest number that is."""
        least: float = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
        most: float = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
        for number in reversed(self._numbers):
            if least <= number <= most and (number.is_integer() or not is_integer):
                return int(number) if number.is_integer() else number
        if "exclusiveMinimum" in schema:
            return int(least) + 1
        if least == -math.inf:
            return 0 if most >= 0 else math.floor(most)
        return math.ceil(least) if math.ceil(least) <= most else least

    def _named(self, reference: str) -> Any:
        """Resolve a reference such as `#/$defs/name`; admitted schemas refer only to their own parts."""
        found: Any = self._root
        for step in reference.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found[int(step)] if isinstance(found, list) else found[step]
        return found


def _without(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    return {each: argument for each, argument in schema.items() if each != keyword}

"""The schema that an answer must fit: what is checked, and what an answer that fits is worth as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf.struct_pb2 import Struct

from agent_service.errors import FieldViolation
from agent_service.schemas.admission import DEPTH_MAX, bare, options
from agent_service.schemas.explanation import explain

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

# A Struct takes some 15 bytes for the smallest value, and must not fill a response.
VALUES_MAX = 20_000


@dataclass(frozen=True)  # without slots, which `cached_property` does not go with
class OutputSchema:
    """A JSON Schema that was admitted, as canonical text. Making one is cheap: it is compiled when it is needed."""

    text: str

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> OutputSchema:
        """The schema of plain values, in its canonical text: sorted keys, no spaces."""
        return cls(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode())

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The schema as plain values, without the names that it has in the world."""
        return bare(orjson.loads(self.text))

    @cached_property
    def _validator(self) -> Draft202012Validator:
        from jsonschema_rs import Draft202012Validator

        return Draft202012Validator(self.plain, **options())

    def violations(self, answer: str) -> list[FieldViolation]:
        """How an answer, as JSON text, breaks the schema; nothing if it fits. No finding tells a value of it."""
        try:
            value = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return [FieldViolation("", "is not a whole JSON document")]
        if flaw := _bounds(value):
            return [FieldViolation("", flaw)]
        return [] if self._validator.is_valid(value) else explain(self.plain, value)


def document_in(text: str) -> str:
    """The JSON text of an answer: models like to put it into a code fence, and blanks around it."""
    text = text.strip()
    if not (text.startswith("```") and text.endswith("```") and "\n" in text):
        return text
    return text[text.index("\n") : -3].strip()


def as_struct(answer: str) -> Struct | None:
    """An answer that fits its schema as a value; None for any other text."""
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or _bounds(value):
        return None
    struct = Struct()
    struct.update(value)
    return struct


def _bounds(value: Any) -> str:
    """What is too much about a value; "" if nothing is."""
    level, depth, count = [value], 0, 1
    while level := [each for each in level if isinstance(each, (dict, list)) and each]:
        depth += 1
        if depth > DEPTH_MAX:
            return f"must be nested at most {DEPTH_MAX} levels deep"
        count += sum(map(len, level))
        if count > VALUES_MAX:
            return f"must have at most {VALUES_MAX} values"
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return ""

"""The schema that an answer must fit: what is checked, and what an answer that fits is worth as a value."""

from __future__ import annotations

import json
import re
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

# What models think aloud before they answer, also where its beginning is missing.
_THOUGHTS = re.compile(r"^\s*(?:<(think|thinking|reasoning)>.*?</\1>|(?:(?!<think).)*?</think(?:ing)?>)", re.DOTALL)
_AROUND = " \t\r\n\ufeff\u200b"
# A fence that nobody closed ends with the text.
_FENCED = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()
# Openings that a text is looked through for; each may take a walk through the rest of it.
LOOKS_MAX = 100
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
    """The JSON text of an answer. Models like to put it into a code fence, thoughts before it, and words around it: the
    one object or list that is in the text is the answer. Where there is none, or several, the text is.
    """
    text = _THOUGHTS.sub("", text).strip(_AROUND)
    if _is_json(text):
        return text
    fenced = {block.strip(_AROUND) for block in _FENCED.findall(text)}
    found = {block for block in fenced if _is_json(block)} or _documents(text)
    return found.pop() if len(found) == 1 else text


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _documents(text: str) -> set[str]:
    """The objects and lists that stand in a text, those inside others left out."""
    found: set[str] = set()
    start, looks = 0, 0
    while (match := _OPENING.search(text, start)) and looks < LOOKS_MAX:
        looks += 1
        try:
            _, end = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            start = match.end()
            continue
        found.add(text[match.start() : end])
        start = end
    return found


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

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

# What models think aloud before they answer.
_TAG = "(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reason|scratchpad)"
_THOUGHTS = re.compile(rf"(?:\s*(?:<({_TAG})>.*?</\1>|\[THINK\].*?\[/THINK\]|◁think▷.*?◁/think▷))+", re.DOTALL)
_THOUGHTS_END = re.compile("</think(?:ing)?>")
_AROUND = " \t\r\n\ufeff\u200b"
# A fence that nobody closed ends with the text.
_FENCED = re.compile(r"(```|~~~)[A-Za-z0-9_-]*[ \t]*\r?\n(.*?)(?:\1|\Z)", re.DOTALL)
# Thoughts that never ended, and no document in them.
_OPEN_THOUGHT = re.compile(rf"\s*<{_TAG}>(?!.*(?:</|[{{[]))", re.DOTALL)
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
        """Return how an answer, as JSON text, breaks the schema; nothing if it fits. No finding tells a value of it."""
        try:
            value = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return [FieldViolation("", "is not a whole JSON document")]
        if flaw := _bounds(value):
            return [FieldViolation("", flaw)]
        return [] if self._validator.is_valid(value) else explain(self.plain, value)

    def answer_in(self, text: str) -> str:
        """The JSON text of an answer: of several documents in the text the one that fits; else `document_in`."""
        found = _documents_in(text)
        if len(found) == 1 and found[0].startswith('"'):  # encoded twice
            found = [*found, orjson.loads(found[0])]
        fitting = [each for each in found if not self.violations(each)] if len(found) > 1 else []
        return fitting[0] if len(fitting) == 1 else document_in(text)


def without_thoughts(text: str) -> str:
    """The text without the thoughts before it, and without what nobody can see around it."""
    if thoughts := _THOUGHTS.match(text):
        text = text[thoughts.end() :]
    # Templates write the beginning for the model.
    elif (end := _THOUGHTS_END.search(text)) and "<think" not in text[: end.start()]:
        text = text[end.end() :]
    return "" if _OPEN_THOUGHT.match(text) else text.strip(_AROUND)


def document_in(text: str) -> str:
    """The JSON text of an answer. Models like to put it into a code fence, thoughts before it, and words around it: the
    one object or list that is in the text is the answer. Where there is none, or several, the text is.
    """
    found = _documents_in(text)
    return found[0] if len(found) == 1 else without_thoughts(text)


def _documents_in(text: str) -> list[str]:
    """The JSON texts of which one may be the answer, each once."""
    text = without_thoughts(text)
    if _is_json(text):
        return [text]
    fenced = dict.fromkeys(block.strip(_AROUND) for _, block in _FENCED.findall(text))
    return [block for block in fenced if _is_json(block)] or _documents(text)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _documents(text: str) -> list[str]:
    """The objects and lists that stand in a text, those inside others left out, each once."""
    found: dict[str, None] = {}
    start, looks = 0, 0
    while (match := _OPENING.search(text, start)) and looks < LOOKS_MAX:
        looks += 1
        try:
            _, end = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            start = match.end()
            continue
        found[text[match.start() : end]] = None
        start = end
    return list(found)


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
    """Return what is too much about a value; "" if nothing is."""
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

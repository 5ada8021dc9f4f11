"""The schema that an answer must fit: validation of answers, and their conversion to values."""

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
from agent_service.schemas.explanation import explain
from agent_service.schemas.flaws import DEPTH_MAX, bare, options

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

# Tags of reasoning that some models write before the answer.
_TAG = "(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reason|scratchpad)"
_THOUGHTS = re.compile(rf"(?:\s*(?:<({_TAG})>.*?</\1>|\[THINK\].*?\[/THINK\]|◁think▷.*?◁/think▷))+", re.DOTALL)
_THOUGHTS_END = re.compile("</think(?:ing)?>")
_AROUND = " \t\r\n\ufeff\u200b"
# An unclosed fence ends with the text.
_FENCED = re.compile(r"(```|~~~)[A-Za-z0-9_-]*[ \t]*\r?\n(.*?)(?:\1|\Z)", re.DOTALL)
# Unclosed reasoning without a document in it.
_OPEN_THOUGHT = re.compile(rf"\s*<{_TAG}>(?!.*(?:</|[{{[]))", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()
# The maximum number of opening brackets tried in a text; each may cost a scan of the rest of it.
OPENINGS_MAX = 100
# A Struct takes about 15 bytes for the smallest value, and must not fill a response.
VALUES_MAX = 20_000


@dataclass(frozen=True)  # without slots, which `cached_property` does not support
class OutputSchema:
    """An admitted JSON Schema as canonical text. Cheap to create: it is compiled at its first use."""

    text: str

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> OutputSchema:
        """Return the schema of plain values in its canonical text: sorted keys, no spaces."""
        return cls(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode())

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The schema as plain values, without `$schema` and `$id`."""
        return bare(orjson.loads(self.text))

    @cached_property
    def _validator(self) -> Draft202012Validator:
        from jsonschema_rs import Draft202012Validator

        return Draft202012Validator(self.plain, **options())

    def violations(self, answer: str) -> list[FieldViolation]:
        """Return how an answer, as JSON text, violates the schema; [] if it fits. No finding has a value of it."""
        try:
            value = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return [FieldViolation("", "is not a complete JSON document")]
        if flaw := _bounds(value):
            return [FieldViolation("", flaw)]
        return [] if self._validator.is_valid(value) else explain(self.plain, value)

    def answer_in(self, text: str) -> str:
        """Return the JSON text of an answer: of several documents in the text the one that fits; else `document_in`."""
        found = _documents_in(text)
        if len(found) == 1 and found[0].startswith('"'):  # encoded twice
            found = [*found, orjson.loads(found[0])]
        fitting = [each for each in found if not self.violations(each)] if len(found) > 1 else []
        return fitting[0] if len(fitting) == 1 else document_in(text)


def without_thoughts(text: str) -> str:
    """Return the text without the reasoning before it, and without invisible characters around it."""
    if thoughts := _THOUGHTS.match(text):
        text = text[thoughts.end() :]
    # Some templates write the opening tag for the model.
    elif (end := _THOUGHTS_END.search(text)) and "<think" not in text[: end.start()]:
        text = text[end.end() :]
    return "" if _OPEN_THOUGHT.match(text) else text.strip(_AROUND)


def document_in(text: str) -> str:
    """Return the JSON text of an answer. Models often put it into a code fence, with reasoning before it and words
    around it: the only object or list in the text is the answer. If there is none, or several, the answer is the whole
    text.
    """
    found = _documents_in(text)
    return found[0] if len(found) == 1 else without_thoughts(text)


def _documents_in(text: str) -> list[str]:
    """Return the JSON texts that may be the answer, each once."""
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
    """Return the outermost objects and lists in a text, each once."""
    found: dict[str, None] = {}
    start, openings = 0, 0
    while (match := _OPENING.search(text, start)) and openings < OPENINGS_MAX:
        openings += 1
        try:
            _, end = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            start = match.end()
            continue
        found[text[match.start() : end]] = None
        start = end
    return list(found)


def as_struct(answer: str) -> Struct | None:
    """Return an answer that fits its schema as a value; None for any other text."""
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
    """Return the limit that a value exceeds, as a message; "" if it exceeds none."""
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

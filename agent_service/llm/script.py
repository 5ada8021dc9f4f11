"""Scripts of the scripted model: a YAML list of matches and turns, validated and compiled.

    - match: 'add (?P<a>[0-9]+) and (?P<b>[0-9]+)'   # searched in the last user text; case is ignored
      turns:                                         # the replies after that text, in order
        - tool_calls: [{name: calculator, arguments: {expression: "{a} + {b}"}}]
        - text: "{a} and {b} are {result}."

The first entry that matches is played. A turn has `text`, `tool_calls`, or both; in them `{a}` stands for a named
group, `{result}` for the newest tool result since the user's text and `{results[0]}` for the first one; `{result.time}`
is a field of a result that is a JSON object. `{{` and `}}` are braces. The `name` of a tool call may have placeholders,
and `arguments` may also be a string, sent as it is.

Where the answer must fit a schema, a `text` that is a JSON document is used unchanged, and any other becomes a document
that follows the schema, with the text and its numbers in it.

For tests a turn may have:

    delay_s: 0.5          wait before the first word
    chunk_delay_s: 0.01   wait before each further piece of text
    reasoning: "Hm, {a}…" live reasoning before the text, with the same placeholders; not part of the reply
    finish: length        stop, length or content_filter in place of what follows from the turn
    fail: {reason: LLM_UNAVAILABLE, retryable: true, retry_after_s: 2}    break off after the text

and an entry may have `repeat: true`: its turns begin again after the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator

from agent_service.errors import ConfigError
from agent_service.text.enum_names import value_of
from agent_service.text.paths import dotted
from agent_service.text.violations import in_words
from agent_service.text.yaml_document import Location, UnreadableYamlError, read_yaml
from agent_service.v1.error_reason_pb2 import ErrorReason
from agent_service.v1.task_event_pb2 import FinishReason

MATCHED_CHARACTERS_MAX = 4096
MISSING_RESULT = "(no result)"

Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _CallSchema(_Schema):
    name: str = Field(min_length=1)
    arguments: dict[str, JsonValue] | str = {}


class _FailSchema(_Schema):
    reason: Literal["LLM_UNAVAILABLE", "LLM_TIMEOUT", "LLM_RATE_LIMITED", "LLM_REJECTED", "LLM_AUTH"]
    retryable: bool = False
    retry_after_s: Seconds | None = None


class _TurnSchema(_Schema):
    text: str = ""
    reasoning: str = ""
    tool_calls: list[_CallSchema] = []
    delay_s: Seconds = 0.0
    chunk_delay_s: Seconds = 0.0
    finish: Literal["stop", "length", "content_filter"] | None = None
    fail: _FailSchema | None = None

    @model_validator(mode="after")
    def _says_something(self) -> _TurnSchema:
        if not (self.text or self.tool_calls or self.fail or self.finish):
            raise ValueError("a turn needs text, tool_calls, finish or fail")
        return self


class _EntrySchema(_Schema):
    match: str
    turns: list[_TurnSchema] = Field(min_length=1)
    repeat: bool = False


_SCHEMA = TypeAdapter(list[_EntrySchema], config=ConfigDict(defer_build=True))

_Problem = tuple[Location, str]


@dataclass(frozen=True, slots=True)
class Group:
    """The text that a named group matched."""

    name: str


@dataclass(frozen=True, slots=True)
class Result:
    """A tool result, -1 being the newest, or a field of one that is a JSON object."""

    index: int
    field: str | None = None

    def text(self, results: Sequence[str]) -> str:
        """Return the result; a note if there is none, and the whole result if it has no such field."""
        if not results or self.index >= len(results):
            return MISSING_RESULT
        result = results[self.index]
        if self.field is None:
            return result
        try:
            value = orjson.loads(result)[self.field]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return result
        return value if isinstance(value, str) else orjson.dumps(value).decode()


@dataclass(frozen=True, slots=True)
class Template:
    """Text with placeholders."""

    parts: tuple[str | Group | Result, ...]

    @property
    def constant(self) -> str | None:
        """The text if it has no placeholder, else None."""
        texts = [part for part in self.parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(self.parts) else None

    def render(self, groups: Mapping[str, str | None], results: Sequence[str]) -> str:
        """Return the text with values for the placeholders. A group that matched nothing is empty."""
        rendered = []
        for part in self.parts:
            if isinstance(part, str):
                rendered.append(part)
            elif isinstance(part, Group):
                rendered.append(groups[part.name] or "")
            else:
                rendered.append(part.text(results))
        return "".join(rendered)


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call. `arguments` is JSON with templates in place of its strings, or a template of the exact text."""

    name: Template
    arguments: Any

    def arguments_json(self, groups: Mapping[str, str | None], results: Sequence[str]) -> str:
        if isinstance(self.arguments, Template):
            return self.arguments.render(groups, results)
        return orjson.dumps(_rendered(self.arguments, groups, results)).decode()


@dataclass(frozen=True, slots=True)
class ScriptedFailure:
    reason: ErrorReason.ValueType
    retryable: bool
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply. `pieces` are the constant text as it is streamed; they are empty if a `template` produces the text."""

    reasoning: Template
    template: Template | None
    text: str
    pieces: tuple[str, ...]
    calls: tuple[ScriptedCall, ...]
    delay_s: float
    chunk_delay_s: float
    finish: FinishReason.ValueType
    failure: ScriptedFailure | None

    def names(self, groups: Mapping[str, str | None], results: Sequence[str]) -> list[str]:
        """Return the names of the tools that it calls."""
        return [call.name.render(groups, results) for call in self.calls]


@dataclass(frozen=True, slots=True)
class Entry:
    """The turns that are played if `pattern` is found."""

    pattern: re.Pattern[str]
    turns: tuple[Turn, ...]
    repeat: bool


@dataclass(frozen=True, slots=True)
class Script:
    """A valid script. The first entry that matches is played."""

    entries: tuple[Entry, ...]

    @classmethod
    def parse(cls, text: str, source: str) -> Script:
        """Parse a script from YAML. `source` names it in problems, such as its file.

        Raises:
            ConfigError: it is not a valid script; all problems at once: `script.yaml:7 [2].turns[0].text: '{b}' is …`.
        """
        try:
            document = read_yaml(text)
        except UnreadableYamlError as exc:
            raise ConfigError([f"{source}:{exc.line}: {exc}" if exc.line else f"{source}: {exc}"]) from exc
        flaws = [_problem(source, line, path, flaw) for line, path, flaw in document.flaws]
        problems: list[_Problem] = []
        entries: list[Entry | None] = []
        try:
            schemas = _SCHEMA.validate_python(document.tree)
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
            problems += [(error["loc"], in_words(error)) for error in errors if error["loc"] not in document.unread]
        else:
            entries = [_entry(schema, (index,), problems) for index, schema in enumerate(schemas)]
        if flaws or problems:
            found = [_problem(source, document.line(path), path, message) for path, message in problems]
            raise ConfigError([*flaws, *found])
        return cls(tuple(entry for entry in entries if entry is not None))

    def find(self, text: str) -> tuple[Entry, Mapping[str, str | None]] | None:
        """Return the first entry that matches the text's first MATCHED_CHARACTERS_MAX, and its named groups."""
        head = text[:MATCHED_CHARACTERS_MAX]
        for entry in self.entries:
            if match := entry.pattern.search(head):
                return entry, match.groupdict()
        return None


_WORDS = re.compile(r"(?:\s*\S+){1,4}")


def pieces_of(text: str) -> tuple[str, ...]:
    """Split the text into groups of four words; joined, they are the text."""
    pieces = _WORDS.findall(text)
    rest = text[sum(map(len, pieces)) :]
    return (*pieces, rest) if rest else tuple(pieces)


def _problem(source: str, line: int, path: Location, text: str) -> str:
    return f"{source}:{line} {dotted(path)}".rstrip() + f": {text}"


def _entry(schema: _EntrySchema, path: Location, problems: list[_Problem]) -> Entry | None:
    try:
        pattern = re.compile(schema.match, re.IGNORECASE)
    except re.error as exc:
        problems.append(((*path, "match"), f"is not a regular expression: {exc.msg}"))
        return None
    groups = frozenset(pattern.groupindex)
    turns = [_turn(turn, groups, (*path, "turns", index), problems) for index, turn in enumerate(schema.turns)]
    return Entry(pattern, tuple(turns), schema.repeat)


def _turn(schema: _TurnSchema, groups: frozenset[str], path: Location, problems: list[_Problem]) -> Turn:
    template = _template(schema.text, groups, (*path, "text"), problems)
    text = template.constant
    calls = tuple(
        _call(call, groups, (*path, "tool_calls", index), problems) for index, call in enumerate(schema.tool_calls)
    )
    finish = schema.finish or ("tool_calls" if calls else "stop")
    fail = schema.fail
    failure = None
    if fail is not None:
        reason = value_of(ErrorReason, fail.reason)
        failure = ScriptedFailure(reason, fail.retryable, fail.retry_after_s)
    return Turn(
        reasoning=_template(schema.reasoning, groups, (*path, "reasoning"), problems),
        template=template if text is None else None,
        text=text or "",
        pieces=pieces_of(text or ""),
        calls=calls,
        delay_s=schema.delay_s,
        chunk_delay_s=schema.chunk_delay_s,
        finish=value_of(FinishReason, finish),
        failure=failure,
    )


def _call(schema: _CallSchema, groups: frozenset[str], path: Location, problems: list[_Problem]) -> ScriptedCall:
    name = _template(schema.name, groups, (*path, "name"), problems)
    return ScriptedCall(name, _templates(schema.arguments, groups, (*path, "arguments"), problems))


_PLACEHOLDER = re.compile(
    r"\{\{ | \}\} | \{ (?P<name> [A-Za-z_]\w* ) (?: \[ (?P<index> [0-9]{1,4} ) \] )? (?: \. (?P<field> \w+ ) )? \}",
    re.VERBOSE,
)


def _template(text: str, groups: frozenset[str], path: Location, problems: list[_Problem]) -> Template:
    parts: list[str | Group | Result] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        name, index, field = match.group("name", "index", "field")
        if name is None:
            parts.append(match[0][0])
        elif name == "result" and index is None:
            parts.append(Result(-1, field))
        elif name == "results" and index is not None:
            parts.append(Result(int(index), field))
        elif name in groups and index is field is None:
            parts.append(Group(name))
        else:
            message = f"{match[0]!r} is neither a named group of `match` nor {{result}} or {{results[0]}}"
            problems.append((path, message))
    parts.append(text[end:])
    return Template(tuple(part for part in parts if part != ""))


def _templates(value: JsonValue, groups: frozenset[str], path: Location, problems: list[_Problem]) -> Any:
    """Return the value with templates in place of its strings."""
    if isinstance(value, str):
        return _template(value, groups, path, problems)
    if isinstance(value, dict):
        return {key: _templates(item, groups, (*path, key), problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_templates(item, groups, (*path, index), problems) for index, item in enumerate(value)]
    return value


def _rendered(value: Any, groups: Mapping[str, str | None], results: Sequence[str]) -> Any:
    if isinstance(value, Template):
        return value.render(groups, results)
    if isinstance(value, dict):
        return {key: _rendered(item, groups, results) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, groups, results) for item in value]
    return value

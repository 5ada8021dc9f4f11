"""The tables of docs/adr/0005-names-and-defaults.md stay true: what stands in backticks in their column *here*."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import grpc
import pytest
from google.protobuf import descriptor_pool
from pydantic import BaseModel

from agent_service.cli import main
from agent_service.config.describe import env_reference
from agent_service.v1 import agent_service_pb2  # noqa: F401 - fills the descriptor pool
from agent_service.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[3]
ADR = ROOT / "docs" / "adr" / "0005-names-and-defaults.md"

VARIABLE = re.compile(r"(?P<name>[A-Z][A-Z0-9_]+)(?P<default>=.*)?")
FILE = re.compile(r"(?P<path>[\w./-]+): (?P<text>.+)")
PYTHON = re.compile(
    r"(?P<module>[a-z_.0-9]+):(?P<path>[\w.]+)(?P<signature>\(.*\))?"
    r"(?: = (?P<value>.+?))?(?: in (?P<bounds>\S+\.\.\S+))?(?: length (?P<lengths>\S+\.\.\S+))?(?: like (?P<like>\S+))?"
)
FIXTURE = re.compile(r"fixture (?P<name>\w+)(?:\.(?P<attribute>\w+) = (?P<value>.+))?")
PROTO = re.compile(r"[A-Z]\w+(\.\w+)?")

DEFAULTS = {variable.name: variable.default for variable in env_reference()}
STATUSES = {code.name for code in grpc.StatusCode}
REASONS = ErrorReason.DESCRIPTOR.values_by_name


class Row(NamedTuple):
    line: int
    there: str
    here: str
    why: str

    @property
    def claims(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.here)


def rows(text: str) -> Iterator[Row]:
    """The rows of the tables whose head is `there | here | why different`."""
    is_ours = False
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            is_ours = False
        elif cells == ["there", "here", "why different"]:
            is_ours = True
        elif is_ours and not line.startswith("|---"):
            yield Row(number, *cells)


ROWS = list(rows(ADR.read_text("utf-8")))


class Untrue(AssertionError):
    """A claim that does not hold, or that no form here can read."""


def check(claim: str, fixture: Callable[[str], Any]) -> None:
    """Raise where a claim is not true."""
    if claim.startswith("agent-service "):
        _check_command(claim.split()[1:])
    elif found := FIXTURE.fullmatch(claim):
        given = fixture(found["name"])
        if found["attribute"]:
            _equal(getattr(given, found["attribute"]), ast.literal_eval(found["value"]))
    elif found := VARIABLE.fullmatch(claim):
        _check_name(found["name"], found["default"])
    elif found := FILE.fullmatch(claim):
        lines = (ROOT / found["path"]).read_text("utf-8").splitlines()
        if not any(found["text"] in line for line in lines):
            raise Untrue(f"{found['path']} has no line with {found['text']}")
    elif found := PYTHON.fullmatch(claim):
        _check_python(found)
    elif PROTO.fullmatch(claim):
        _check_proto(claim)
    else:
        raise Untrue("written in none of the forms")


def _check_name(name: str, default: str | None) -> None:
    if default is not None:
        _equal(DEFAULTS[name], default[1:])
    elif name not in DEFAULTS and name not in STATUSES and f"ERROR_REASON_{name}" not in REASONS:
        raise Untrue("neither a variable nor a reason nor a status")


def _check_python(claim: re.Match[str]) -> None:
    found: Any = importlib.import_module(f"agent_service.{claim['module']}")
    *path, last = claim["path"].split(".")
    for name in path:
        found = getattr(found, name)
    owner, found = found, _member(found, last)
    if claim["signature"]:
        _check_signature(getattr(owner, last), claim["signature"])
    if claim["value"] is not None:
        _equal(found, ast.literal_eval(claim["value"]))
    schema = _schema(owner, last) if claim["bounds"] or claim["lengths"] or claim["like"] else {}
    for given, least, most in (
        (claim["bounds"], "minimum", "maximum"),
        (claim["lengths"], "minLength", "maxLength"),
    ):
        if given is not None:
            _equal([schema.get(least), schema.get(most)], [float(bound) for bound in given.split("..")])
    if claim["like"] is not None:
        _equal(schema.get("pattern"), claim["like"])


def _member(owner: Any, name: str) -> Any:
    """The attribute; of a field its default."""
    if inspect.isclass(owner) and issubclass(owner, BaseModel):
        for field_name, field in owner.model_fields.items():
            if name in (field_name, field.alias):
                return field.get_default(call_default_factory=True, validated_data={})
    if dataclasses.is_dataclass(owner):
        for each in dataclasses.fields(owner):
            if each.name == name:
                return each.default_factory() if callable(each.default_factory) else each.default
    return getattr(owner, name)


def _check_signature(function: Any, written: str) -> None:
    """Every parameter that is written is there; one with a value has it as its default."""
    call = ast.parse(f"f{written}", mode="eval").body
    assert isinstance(call, ast.Call)
    parameters = inspect.signature(function).parameters
    for argument in call.args:
        assert isinstance(argument, ast.Name)
        if argument.id not in parameters:
            raise Untrue(f"no parameter {argument.id}; there are {', '.join(parameters)}")
    for keyword in call.keywords:
        _equal(parameters[str(keyword.arg)].default, ast.literal_eval(keyword.value))


def _schema(owner: Any, name: str) -> dict[str, Any]:
    """What JSON Schema says of a field of a pydantic model; of one that may be left out, without the null."""
    given: dict[str, Any] = owner.model_json_schema(by_alias=True)["properties"][name]
    inner: dict[str, Any] = given["anyOf"][0] if "anyOf" in given else given
    return inner


def _check_proto(claim: str) -> None:
    pool = descriptor_pool.Default()
    owner, _, member = claim.partition(".")
    name = f"agent_service.v1.{owner}"
    members = (
        pool.FindServiceByName(name).methods if name.endswith("Service") else pool.FindMessageTypeByName(name).fields
    )
    if member and member not in {each.name for each in members}:
        raise Untrue(f"{owner} has no {member}")


def _check_command(words: list[str]) -> None:
    command: click.Command = main
    context = click.Context(main)
    for word in words:
        if word.startswith("-"):
            options = {option for parameter in command.params for option in parameter.opts}
            if word not in options:
                raise Untrue(f"no option {word}; there are {', '.join(sorted(options))}")
        else:
            assert isinstance(command, click.Group)
            found = command.get_command(context, word)
            if found is None:
                raise Untrue(f"no command {word}")
            command = found


def _equal(is_: object, claimed: object) -> None:
    if is_ != claimed:
        raise Untrue(f"is {is_!r}, not {claimed!r}")


def test_the_tables_are_there_and_every_row_is_whole() -> None:
    assert len(ROWS) > 100
    assert [row.line for row in ROWS if not (row.there and row.here and row.why)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"line {row.line}")
def test_what_the_tables_say_of_this_service_is_so(row: Row, request: pytest.FixtureRequest) -> None:
    assert row.claims, "says nothing that can be checked"
    for claim in row.claims:
        try:
            check(claim, request.getfixturevalue)
        except (Untrue, LookupError, AttributeError, ImportError, OSError) as error:
            pytest.fail(f"{ADR.name}:{row.line}: `{claim}`: {type(error).__name__}: {error}", pytrace=False)


def test_a_variable_that_is_called_the_same_has_the_same_value() -> None:
    pairs = [
        (row.there.strip("`"), row.claims[0])
        for row in ROWS
        if row.why == "same" and VARIABLE.fullmatch(row.there.strip("`"))
    ]
    assert len(pairs) >= 5
    assert [(there, here) for there, here in pairs if there != here] == []


@pytest.mark.parametrize(
    "claim",
    [
        "API_PORT=9001",
        "API_KEY=something",
        "API_PROT=9000",
        "NO_SUCH_REASON",
        "errors:NoError",
        "nowhere:Thing",
        "llm.retry:Retrying(attempts=4)",
        "llm.retry:Retrying(tries)",
        "llm.retry:RETRY_AFTER_S_MAX = 60.0",
        "config.model_parts:Retry.attempts = 4 in 1..10",
        "config.model_parts:Retry.attempts = 3 in 1..11",
        "config.schema:Agent.class = 'x'",
        "service.requests:RunTaskInput.task length 1..9999",
        "service.requests:ToolInvokeInput.tool_name like ^[a-z_]+$",
        "RunTaskRequest.config",
        "NoSuchRequest.task",
        "AgentService.Run",
        'pyproject.toml: name = "agent-sdk"',
        "no-such-file: text",
        "agent-service server",
        "agent-service serve --hots",
        "fixture model_config.temperature = 0.2",
        "fixture nothing",
        "something else",
    ],
)
def test_a_claim_that_is_not_true_is_found(claim: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises((Untrue, LookupError, AttributeError, ImportError, OSError)):
        check(claim, request.getfixturevalue)

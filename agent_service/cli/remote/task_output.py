"""Shows a task's events on a terminal, in a pipe or as JSON, and determines the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import click
from google.protobuf.json_format import MessageToJson

from agent_service.cli.connection import EXIT_CANCELED, EXIT_FAILED, EXIT_INPUT_REQUIRED, EXIT_USAGE
from agent_service.cli.remote.stdin import read_stdin
from agent_service.cli.remote.view import AnswerView, LineView, LiveView, View
from agent_service.text.enum_names import short_name
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Task, TaskState

EXIT_CODES: Mapping[str, int] = MappingProxyType(
    {
        "completed": 0,
        "failed": EXIT_FAILED,
        "rejected": EXIT_FAILED,
        "canceled": EXIT_CANCELED,
        "input_required": EXIT_INPUT_REQUIRED,
    }
)

C = TypeVar("C", bound=Callable[..., object])


class JsonView:
    """Prints one JSON object per line, in the contract's JSON format."""

    def show(self, event: TaskEvent) -> None:
        click.echo(MessageToJson(event, indent=None))


def view_options(command: C) -> C:
    """Add --json and --quiet."""
    command = click.option("-q", "--quiet", is_flag=True, help="Print only the answer.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print every event as one JSON object per line.")(
        command
    )


async def follow(events: AsyncGenerator[TaskEvent], *, as_json: bool, quiet: bool) -> int | None:
    """Show every event; return the exit code of the last event that has one, or None."""
    view = _view(as_json, quiet)
    code: int | None = None
    async with aclosing(events):
        async for event in events:
            view.show(event)
            code = EXIT_CODES.get(event.WhichOneof("event") or "", code)
    return code


def exit_code(task: Task) -> int:
    """Return the exit code for the state of a task."""
    state = short_name(TaskState, task.state).lower()
    return EXIT_CODES.get(state, EXIT_FAILED)


def labels_of(texts: tuple[str, ...]) -> dict[str, str]:
    """Parse `KEY=VALUE` texts as labels; exit if one is invalid."""
    labels = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            click.echo(f"--label {text}: write it as KEY=VALUE", err=True)
            sys.exit(EXIT_USAGE)
        labels[key] = value
    return labels


def schema_of(path: str | None) -> dict[str, object] | None:
    """Return the JSON object in a file, or on standard input for `-`; exit if there is none."""
    if path is None:
        return None
    try:
        text = read_stdin() if path == "-" else Path(path).read_text("utf-8")
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # no half surrogates, which cannot be sent
    except OSError as error:
        click.echo(f"--schema {path}: {error.strerror}", err=True)
        sys.exit(EXIT_USAGE)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        click.echo(f"--schema {path}: is not a JSON object", err=True)
        sys.exit(EXIT_USAGE)
    return value


def _view(as_json: bool, quiet: bool) -> View:
    if as_json:
        return JsonView()
    if quiet:
        return AnswerView()
    return LiveView() if sys.stdout.isatty() else LineView()

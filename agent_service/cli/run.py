"""`agent-service run`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import aclosing
from types import MappingProxyType

import click
from google.protobuf.json_format import MessageToJson

from agent_service.cli.connection import (
    EXIT_CANCELED,
    EXIT_FAILED,
    EXIT_USAGE,
    client_command,
    connection_options,
    with_client,
)
from agent_service.cli.view import AnswerView, LineView, LiveView, View
from agent_service.client import AsyncClient
from agent_service.v1.task_event_pb2 import TaskEvent

EXIT_CODES: Mapping[str, int] = MappingProxyType(
    {"completed": 0, "failed": EXIT_FAILED, "rejected": EXIT_FAILED, "canceled": EXIT_CANCELED}
)


class JsonView:
    """One JSON object a line, as the contract has it."""

    def show(self, event: TaskEvent) -> None:
        click.echo(MessageToJson(event, indent=None))


@click.command()
@click.argument("task")
@click.option("--agent", default="", help="The agent to send it to; the default one if not given.")
@click.option("--timeout", "timeout_s", type=float, help="Seconds that the task may take.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Kept with the task; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a JSON object on a line.")
@click.option("-q", "--quiet", is_flag=True, help="Print the answer and nothing else.")
@connection_options
@client_command
async def run(
    target: str,
    api_key: str,
    task: str,
    agent: str,
    timeout_s: float | None,
    labels: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Run TASK and follow it to its end; `-` reads the task from standard input.

    Shows the work live on a terminal, as plain lines in a pipe. Ctrl-C cancels the task.
    """
    text = sys.stdin.read() if task == "-" else task
    view = _view(as_json, quiet)
    marks = dict(_label(label) for label in labels)

    async def follow(client: AsyncClient) -> int:
        code = EXIT_FAILED
        async with aclosing(client.stream(text, agent=agent, timeout_s=timeout_s, labels=marks)) as events:
            async for event in events:
                view.show(event)
                code = EXIT_CODES.get(event.WhichOneof("event") or "", code)
        return code

    return await with_client(target, api_key, follow)


def _view(as_json: bool, quiet: bool) -> View:
    if as_json:
        return JsonView()
    if quiet:
        return AnswerView()
    return LiveView() if sys.stdout.isatty() else LineView()


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        click.echo(f"--label {text}: write it as KEY=VALUE", err=True)
        sys.exit(EXIT_USAGE)
    return key, value

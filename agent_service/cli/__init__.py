"""The command line: `agent-service COMMAND`.

Exit codes: 0 completed, 1 failed, 2 usage or configuration, 3 canceled, 4 input required, 5 an RPC error. Commands are
imported when they are called: `health` must not wait for what `serve` needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

import click

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "serve": "agent_service.cli.serve:serve",
        "run": "agent_service.cli.run:run",
        "tasks": "agent_service.cli.tasks:tasks",
        "tools": "agent_service.cli.tools:tools",
        "usage": "agent_service.cli.usage:usage",
        "health": "agent_service.cli.health:health",
        "doctor": "agent_service.cli.doctor:doctor",
        "config": "agent_service.cli.config:config",
        "keys": "agent_service.cli.keys:keys",
    }
)


class LazyGroup(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = COMMANDS.get(cmd_name)
        if path is None:
            return None
        module, _, name = path.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from agent_service.version import version

        click.echo(f"agent-service {version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def main() -> None:
    """Runs LLM agents as durable tasks behind gRPC.

    Start a server with `serve`; everything else talks to one.
    """

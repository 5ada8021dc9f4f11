"""The command line: `agent-service COMMAND`.

Exit codes: 0 completed, 1 failed, 2 usage or configuration, 3 canceled, 4 input required, 5 an RPC error or output that
cannot be written. Commands are imported on demand: `health` must not wait for the imports of `serve`.

- `remote/`: commands that call a server, as any client does
- `operator/`: commands that start a server, or work on its files
- `project/`: the files that `agent-service init` writes
- `connection`: options of the commands that call a server, exit codes, and the output of RPC errors
- `setting`: reads one setting as the server does; `parameter_types`: types of options
"""

from __future__ import annotations

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # Each of them would end the process until `serve` handles it, and the imports below take half a second.
    for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)

import importlib
import io
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from agent_service.cli.parameter_types import refuse_other_encodings

EXIT_OUTPUT = 5
POLLERS = frozenset({"all", "epoll1", "poll"})

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "init": "agent_service.cli.operator.init:init",
        "serve": "agent_service.cli.operator.serve:serve",
        "run": "agent_service.cli.remote.run:run",
        "tasks": "agent_service.cli.remote.tasks:tasks",
        "tools": "agent_service.cli.remote.tools:tools",
        "usage": "agent_service.cli.remote.usage:usage",
        "health": "agent_service.cli.remote.health:health",
        "doctor": "agent_service.cli.operator.doctor:doctor",
        "config": "agent_service.cli.operator.config:config",
        "keys": "agent_service.cli.operator.keys:keys",
    }
)


class LazyGroup(click.Group):
    """Imports the module of a command when the command is used."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command. Text that the encoding of stdout lacks is shown with replacement characters."""
        out = sys.stdout
        if isinstance(out, io.TextIOWrapper) and out.errors in ("strict", "surrogateescape"):
            out.reconfigure(errors="replace")
        # grpc's core writes nothing to stderr that our own log lines lack, and callers can make it write a lot.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        if not POLLERS & set(os.environ.get("GRPC_POLL_STRATEGY", "all").split(",")):
            # grpc's core ends the process at once.
            click.echo(f"GRPC_POLL_STRATEGY: must be one of {', '.join(sorted(POLLERS))}, or unset", err=True)
            sys.exit(2)
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            # Commands report errors of files that they read. A closed reader of our output is no error.
            if not isinstance(error, BrokenPipeError):
                click.echo(f"error: {error}", err=True)
            # The buffered rest cannot be written either: prevent another try, and another error, at exit.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
            sys.exit(EXIT_OUTPUT)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = COMMANDS.get(cmd_name)
        if path is None:
            return None
        module, _, name = path.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return refuse_other_encodings(command)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from agent_service.version import version

        click.echo(f"agent-service {version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def main() -> None:
    """Run LLM agents as durable tasks behind gRPC.

    `serve` starts a server. `run`, `tasks`, `tools`, `usage` and `health` call one, on this machine unless --target
    names another. All other commands work on the files of this machine.
    """

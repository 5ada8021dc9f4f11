"""What the commands share that talk to a server: where it is, the key, and how a refusal is told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click
from dotenv import dotenv_values

from agent_service.client import AsyncClient, CallError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANCELED = 3
EXIT_INPUT_REQUIRED = 4
EXIT_RPC_ERROR = 5

P = ParamSpec("P")
T = TypeVar("T")


def _setting(name: str) -> str:
    """A setting as the server would read it: the environment, then `.env`."""
    return os.environ.get(name) or dotenv_values(".env").get(name) or ""


def _target_default() -> str:
    return _setting("AGENT_SERVICE_TARGET") or f"localhost:{_setting('API_PORT') or 9000}"


def connection_options(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --target and --api-key."""
    command = click.option(
        "--api-key",
        default=lambda: _setting("API_KEY"),
        help="The key to call with.  [env: API_KEY]",
        show_default=False,
    )(command)
    return click.option(
        "--target",
        default=_target_default,
        metavar="HOST:PORT",
        help="The server.  [env: AGENT_SERVICE_TARGET; default: localhost:$API_PORT]",
        show_default=False,
    )(command)


def client_command(command: Callable[P, Coroutine[Any, Any, int]]) -> Callable[P, None]:
    """Runs an asyncio command, exits with its code, and tells an RPC error in one line."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = asyncio.run(command(*args, **kwargs))
        except CallError as error:
            click.echo(f"error: {error}", err=True)
            for field, description in error.violations:
                click.echo(f"  {field}: {description}", err=True)
            code = EXIT_RPC_ERROR
        except KeyboardInterrupt:
            click.echo("canceled", err=True)
            code = EXIT_CANCELED
        except BrokenPipeError:
            # Whoever read our output has gone; say nothing more, also not at exit.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
            code = EXIT_FAILED
        sys.exit(code)

    return run


async def with_client(target: str, api_key: str, work: Callable[[AsyncClient], Awaitable[int]]) -> int:
    """Do something over one connection."""
    async with AsyncClient(target, api_key=api_key) as client:
        return await work(client)

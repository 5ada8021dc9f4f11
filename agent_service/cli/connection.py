"""Shared by the commands that call a server: its address, the key, and the output of errors."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

from agent_service.cli.setting import setting
from agent_service.client import AsyncClient, CallError, Tls

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANCELED = 3
EXIT_INPUT_REQUIRED = 4
EXIT_RPC_ERROR = 5

PORT = re.compile(r":(\d+)$")
PORT_MAX = 65_535

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of a server, the TLS settings and the key."""

    target: str
    api_key: str = field(repr=False)
    tls: Tls | None
    is_default: bool = False

    def for_health(self) -> Connection:
        """Return this connection, or one to the local HEALTH_PORT if it is set and no server was named."""
        port = setting("HEALTH_PORT")
        return Connection(f"localhost:{port}", "", None) if self.is_default and port not in ("", "0") else self

    def client(self) -> AsyncClient:
        """Return a client of that server.

        Raises:
            click.UsageError: a file cannot be read, or the key cannot be sent.
        """
        try:
            return AsyncClient(self.target, api_key=self.api_key, tls=self.tls)
        except OSError as error:
            raise click.UsageError(f"{error.filename}: {error.strerror}") from None
        except CallError as error:
            raise click.UsageError(f"{error.message} (--api-key, API_KEY)") from None
        except ValueError as error:
            raise click.UsageError(str(error)) from None


def connection_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the connection options; the command receives them as its `connection`."""

    @wraps(command)
    def connected(
        *args: Any,
        target: str,
        api_key: str,
        tls: bool | None,
        ca_file: str,
        cert_file: str,
        key_file: str,
        server_name: str,
        **kwargs: Any,
    ) -> T:
        if bool(cert_file) != bool(key_file):
            raise click.UsageError("a client certificate needs both --cert-file and --key-file")
        wanted = Tls(ca_file or None, cert_file or None, key_file or None, server_name)
        is_protected = wanted != Tls() if tls is None else tls
        target = target.strip()
        where = target or _here()
        if (port := PORT.search(where)) and int(port[1]) > PORT_MAX:  # grpc would use another port
            raise click.UsageError(f"{where}: the port must be at most {PORT_MAX}")
        connection = Connection(where, api_key, wanted if is_protected else None, is_default=not target)
        return command(*args, connection=connection, **kwargs)

    for option in reversed(_OPTIONS):
        connected = option(connected)
    return connected


def _here() -> str:
    return f"localhost:{setting('API_PORT') or 9000}"


def _option(flag: str, variable: str, text: str, metavar: str = "FILE", default: str = "") -> Callable[..., Any]:
    text = f"{text}  [env: {variable}{default}]"
    return click.option(flag, default=lambda: setting(variable), metavar=metavar, help=text, show_default=False)


_OPTIONS = (
    _option("--target", "AGENT_SERVICE_TARGET", "The server's address.", "HOST:PORT", "; default: localhost:$API_PORT"),
    _option("--api-key", "API_KEY", "The API key.", "TEXT"),
    click.option(
        "--tls/--no-tls",
        default=lambda: setting("AGENT_SERVICE_TLS") or None,
        help="Whether to connect with TLS; the next four options imply it.  [env: AGENT_SERVICE_TLS]",
        show_default=False,
    ),
    _option("--ca-file", "AGENT_SERVICE_CA_FILE", "CA certificates to trust (PEM); default: the system's."),
    _option("--cert-file", "AGENT_SERVICE_CERT_FILE", "The client's certificate (PEM), if the server requires one."),
    _option("--key-file", "AGENT_SERVICE_KEY_FILE", "The private key of the client's certificate (PEM)."),
    _option(
        "--server-name",
        "AGENT_SERVICE_SERVER_NAME",
        "The name expected in the server's certificate, if not HOST.",
        "NAME",
    ),
)


def client_command(command: Callable[P, Coroutine[Any, Any, int]]) -> Callable[P, None]:
    """Run an asyncio command, exit with its code, and print an RPC error in one line."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells set it for background commands
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            code = asyncio.run(command(*args, **kwargs))
        except CallError as error:
            click.echo(f"error: {error}", err=True)
            for field, description in error.violations:
                click.echo(f"  {field}: {description}", err=True)
            if error.reason == "API_KEY_MISSING":
                click.echo(
                    "  set API_KEY to a key of the server; a server without keys prints one at its start", err=True
                )
            if error.is_unreachable and "Socket closed" in error.message:
                click.echo("  it may require TLS (--tls, --ca-file) or a client certificate (--cert-file)", err=True)
            code = EXIT_RPC_ERROR
        except KeyboardInterrupt:
            click.echo("canceled", err=True)
            code = EXIT_CANCELED
        except BrokenPipeError:
            # The reader of our output has closed it: write nothing more, also not at exit.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
            code = EXIT_RPC_ERROR
        sys.exit(code)

    return run


async def with_client(connection: Connection, work: Callable[[AsyncClient], Awaitable[int]]) -> int:
    """Run an action over one connection."""
    async with connection.client() as client:
        return await work(client)

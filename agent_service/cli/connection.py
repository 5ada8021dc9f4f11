"""What the commands share that talk to a server: where it is, the key, and how a refusal is told."""

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
    """Which server, how to reach it, and as whom."""

    target: str
    api_key: str = field(repr=False)
    tls: Tls | None
    is_default: bool = False

    def for_health(self) -> Connection:
        """The same; where no server was named, the port of the one here that is for health alone, if it has one."""
        port = setting("HEALTH_PORT")
        return Connection(f"localhost:{port}", "", None) if self.is_default and port not in ("", "0") else self

    def client(self) -> AsyncClient:
        """A client of that server.

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
    """Adds the options that say which server and how; the command gets them as its `connection`."""

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
        if (port := PORT.search(where)) and int(port[1]) > PORT_MAX:  # grpc would call another one
            raise click.UsageError(f"{where}: a port is at most {PORT_MAX}")
        connection = Connection(where, api_key, wanted if is_protected else None, is_default=not target)
        return command(*args, connection=connection, **kwargs)

    for option in reversed(_OPTIONS):
        connected = option(connected)
    return connected


def _here() -> str:
    return f"localhost:{setting('API_PORT') or 9000}"


def _option(flag: str, variable: str, text: str, metavar: str = "FILE", default: str = "") -> Callable[..., Any]:
    told = f"{text}  [env: {variable}{default}]"
    return click.option(flag, default=lambda: setting(variable), metavar=metavar, help=told, show_default=False)


_OPTIONS = (
    _option("--target", "AGENT_SERVICE_TARGET", "The server.", "HOST:PORT", "; default: localhost:$API_PORT"),
    _option("--api-key", "API_KEY", "The key to call with.", "TEXT"),
    click.option(
        "--tls/--no-tls",
        default=lambda: setting("AGENT_SERVICE_TLS") or None,
        help="Whether to connect with TLS; the next four imply it.  [env: AGENT_SERVICE_TLS]",
        show_default=False,
    ),
    _option("--ca-file", "AGENT_SERVICE_CA_FILE", "CA certificates to trust (PEM); default: the system's."),
    _option("--cert-file", "AGENT_SERVICE_CERT_FILE", "The client's certificate, where the server asks for one."),
    _option("--key-file", "AGENT_SERVICE_KEY_FILE", "Its private key."),
    _option("--server-name", "AGENT_SERVICE_SERVER_NAME", "The name in the server's certificate, if not HOST.", "NAME"),
)


def client_command(command: Callable[P, Coroutine[Any, Any, int]]) -> Callable[P, None]:
    """Runs an asyncio command, exits with its code, and tells an RPC error in one line."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            code = asyncio.run(command(*args, **kwargs))
        except CallError as error:
            click.echo(f"error: {error}", err=True)
            for field, description in error.violations:
                click.echo(f"  {field}: {description}", err=True)
            if error.reason == "API_KEY_MISSING":
                click.echo("  set API_KEY to the server's key; one that has none prints a key at its start", err=True)
            if error.is_unreachable and "Socket closed" in error.message:
                click.echo("  it may want TLS (--tls, --ca-file), or a certificate of yours (--cert-file)", err=True)
            code = EXIT_RPC_ERROR
        except KeyboardInterrupt:
            click.echo("canceled", err=True)
            code = EXIT_CANCELED
        except BrokenPipeError:
            # Whoever read our output has gone; say nothing more, also not at exit.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
            code = EXIT_RPC_ERROR
        sys.exit(code)

    return run


async def with_client(connection: Connection, work: Callable[[AsyncClient], Awaitable[int]]) -> int:
    """Do something over one connection."""
    async with connection.client() as client:
        return await work(client)

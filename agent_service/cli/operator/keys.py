"""`agent-service keys new|list|check`: creates API keys, and inspects the file of keys. Calls no server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from agent_service.cli.setting import setting
from agent_service.errors import ConfigError
from agent_service.keys.base import Scope
from agent_service.keys.file import load_keys, parse_keys
from agent_service.keys.ring import Key, utc_now
from agent_service.keys.secret import generate, hash_text, new_public_id, public_id_of
from agent_service.text.tables import table_lines

EXIT_USAGE = 2

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def keys() -> None:
    """Create API keys, and inspect the file of keys."""


@keys.command()
@click.option("--id", "key_id", metavar="ID", help="The key's name in logs, such as ci-2026.  [default: random]")
@click.option("--tenant", required=True, help="The tenant of the key.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(scope) for scope in Scope]),
    multiple=True,
    required=True,
    help="A permission of the key; repeatable.",
)
@click.option(
    "--agent", "agents", multiple=True, help="An agent that the key may use; repeatable; * means all.  [default: none]"
)
@click.option(
    "--tool", "tools", multiple=True, help="A tool that the key may use; repeatable; * means all.  [default: none]"
)
@click.option("--not-after", metavar="TIME", help="Expiry of the key, such as 2027-01-01T00:00:00Z.  [default: never]")
def new(
    key_id: str | None,
    tenant: str,
    scopes: tuple[str, ...],
    agents: tuple[str, ...],
    tools: tuple[str, ...],
    not_after: str | None,
) -> None:
    """Create a key.

    Prints its secret to stdout, once, and the entry for API_KEYS_FILE to stderr.

    To change the secret of a key, pass its --id, and add the new hash beside the old one:

    \b
        hashes:
          - {hash: sha256:<old>, not_after: 2026-07-01T00:00:00Z}
          - {hash: sha256:<new>}
    """
    key_id = key_id or new_public_id()
    secret = generate(public_id_of(key_id))
    entry: dict[str, object] = {"id": key_id, "hash": hash_text(secret), "tenant": tenant}
    entry["scopes"] = list(scopes)
    entry["agents"] = list(agents)
    entry["tools"] = list(tools)
    if not_after is not None:
        entry["not_after"] = not_after
    lines = yaml.safe_dump([entry], sort_keys=False, default_flow_style=None, width=1000).splitlines()
    text = "keys:\n" + "".join(f"  {line}\n" for line in lines)
    _check_entry(text)
    click.echo(secret)
    click.echo("# This secret cannot be shown again. The lines below are a complete file for API_KEYS_FILE;", err=True)
    click.echo("# to add the key to an existing file, append the lines after `keys:`.", err=True)
    click.echo(text, err=True, nl=False)


def _path(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
    """Return the option, else the setting as the server reads it: the environment, then `.env`."""
    if value is not None:
        return value
    path = setting("API_KEYS_FILE")
    if not path:
        raise click.MissingParameter(ctx=ctx, param=param)
    return Path(path)


def _file_option(command: Command) -> Command:
    return click.option(
        "--file",
        "path",
        type=click.Path(path_type=Path),
        callback=_path,
        help="The file of keys.  [env: API_KEYS_FILE]",
    )(command)


@keys.command("list")
@_file_option
def list_keys(path: Path) -> None:
    """List the keys of a file: ids, tenants, scopes and expiry. Never hashes.

    The public id is the part of a secret that may be shown: `ask_<public id>_…`. A key for a client certificate has an
    identity instead.
    """
    now = utc_now()
    rows = [("ID", "PUBLIC ID", "TENANT", "SCOPES", "ENDS")]
    for key in _load(path):
        principal = key.principal
        scopes = ",".join(scope for scope in Scope if scope in principal.scopes)
        rows.append((principal.key_id, key.identity or key.public_id, principal.tenant, scopes, _ends(key, now)))
    for line in table_lines(rows):
        click.echo(line)


@keys.command()
@_file_option
def check(path: Path) -> None:
    """Check a file of keys as the server does.

    Reports all problems, and exits 2 if there are any.
    """
    count = len(_load(path))
    click.echo(f"{path}: {count} {'key' if count == 1 else 'keys'}")


def _check_entry(text: str) -> None:
    """Check an entry by the rules of the file of keys. `text` is a file with only that entry."""
    try:
        parse_keys(text.encode(), "entry")
    except ConfigError as error:
        # Each is `entry:2 keys[0].tenant: must be …`; the file does not exist yet, so its place is removed.
        problems = [problem.rpartition("keys[0].")[2] for problem in error.problems]
        raise click.UsageError("\n".join(problems)) from None


def _load(path: Path) -> tuple[Key, ...]:
    try:
        return load_keys(path)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        raise click.exceptions.Exit(EXIT_USAGE) from None


def _ends(key: Key, now: datetime) -> str:
    if key.disabled:
        return "disabled"
    if key.expires is None:
        return "never"
    ends = key.expires.isoformat().replace("+00:00", "Z")
    return f"{ends} (expired)" if now > key.expires else ends

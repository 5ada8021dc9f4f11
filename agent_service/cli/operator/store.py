"""`agent-service tasks prune|backup`: work on the store's file, with or without running servers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import NoReturn

import click

from agent_service.cli.connection import EXIT_FAILED, EXIT_USAGE
from agent_service.errors import AgentServiceError, ConfigError


@click.command()
@click.option("--older-than", "days", type=click.FloatRange(0), required=True, help="Days since their last event.")
def prune(days: float) -> None:
    """Delete finished tasks from the store that DATABASE_URL names.

    Servers may use the store meanwhile. If TASK_RETENTION_DAYS is set, servers do this themselves.
    """
    path = _database()
    before_us = int((time.time() - days * 86_400) * 1e6)

    async def erase() -> int:
        from agent_service.bootstrap.store_file import erase_finished

        erased = 0
        async with aclosing(erase_finished(path, before_us)) as commits:
            async for some in commits:
                erased += some
                if sys.stderr.isatty():
                    click.echo(f"\r{erased} deleted", nl=False, err=True)
        return erased

    try:
        erased = asyncio.run(erase())
    except ConfigError as error:
        _refuse("\n".join(error.problems), EXIT_USAGE)
    except AgentServiceError as error:
        _refuse(error.message, EXIT_FAILED)
    click.echo(f"{erased} tasks deleted; their space in {path} is reused")


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
def backup(target: Path) -> None:
    """Copy the store that DATABASE_URL names to TARGET, a new file. Servers may use the store meanwhile.

    The copy is a complete store, consistent at one instant. To restore it, stop the servers and put it in the place of
    the store's file.
    """
    from agent_service.bootstrap.store_file import copy_store

    path = _database()
    try:
        copy_store(path, target, _progress if sys.stderr.isatty() else None)
    except ConfigError as error:
        _refuse("\n".join(error.problems), EXIT_USAGE)
    click.echo(f"{path} copied to {target}, {target.stat().st_size} bytes, checked")


def _progress(left: int, pages: int) -> None:
    click.echo(f"\r{100 * (pages - left) // max(pages, 1)} %", nl=left == 0, err=True)


def _database() -> Path:
    """Return the file of the configured store; exit if there is none."""
    from agent_service.config.loader import load_settings

    try:
        path = load_settings(os.environ).database_path
    except ConfigError as error:
        _refuse("\n".join(error.problems), EXIT_USAGE)
    if path is None:
        _refuse("DATABASE_URL names no file", EXIT_USAGE)
    if not path.is_file():
        _refuse(f"{path} does not exist", EXIT_USAGE)
    return path


def _refuse(problem: str, code: int) -> NoReturn:
    click.echo(problem, err=True)
    sys.exit(code)

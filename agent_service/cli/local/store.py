"""`agent-service tasks prune|backup`: on the store itself, beside servers that use it or without any."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from agent_service.cli.connection import EXIT_FAILED, EXIT_USAGE
from agent_service.errors import AgentServiceError, ConfigError

ERASED_AT_ONCE = 100
# A pause between two commits, so that servers can write: the slowest append beside 20,000 deletions took 0.1 s with it,
# 0.8 s without it (bench/retention.py).
PAUSE_S = 0.05


@click.command()
@click.option("--older-than", "days", type=click.FloatRange(0), required=True, help="Days since their last event.")
def prune(days: float) -> None:
    """Delete finished tasks from the store that DATABASE_URL names.

    Servers may use the store meanwhile. They also do this by themselves, by TASK_RETENTION_DAYS.
    """
    path = _database()
    before_us = int((time.time() - days * 86_400) * 1e6)

    async def erase() -> int:
        from agent_service.store.sqlite.adapter import SqliteStore

        erased = 0
        async with SqliteStore(path) as store:
            while some := await store.erase_finished(before_us, limit=ERASED_AT_ONCE):
                erased += some
                if sys.stderr.isatty():
                    click.echo(f"\r{erased} erased", nl=False, err=True)
                await asyncio.sleep(PAUSE_S)
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

    The copy is a complete store, consistent at one instant. To restore it, stop the servers and replace the store by it.
    """
    from agent_service.store.sqlite import backup as copying

    path = _database()
    try:
        copying.backup(path, target, _progress if sys.stderr.isatty() else None)
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

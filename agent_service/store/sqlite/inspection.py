"""Examines a SQLite store without changing it: whether it can be opened, whether it is damaged, and its contents."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent_service.errors import ConfigError
from agent_service.store.sqlite.migrations import DatabaseRefusedError, refuse_foreign, scripts

SCHEMA_NEWEST = len(scripts())
DRIVEN = """
    SELECT id, tenant, agent, attempt, update_time FROM tasks WHERE state NOT IN (4, 5, 6, 7) AND owner = ?
"""
# SQLite calls the progress handler after this many of its instructions.
INSTRUCTIONS = 100_000


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result. `schema` is 0 for an empty file. `damage` is the first problem that SQLite found: "" for none, None
    if there was no time to read everything. `newest_us` is the time of the newest event, in Unix microseconds.
    """

    schema: int
    size_bytes: int
    tasks: int
    unfinished: int
    newest_us: int
    damage: str | None


def inspect(path: Path, *, is_late: Callable[[], bool] = lambda: False) -> Inspection:
    """Examine the file. `is_late` is called periodically; reading stops once it returns True.

    Raises:
        ConfigError: it cannot be read, or is not a store that this version can open.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as reading:
            schema = refuse_foreign(reading)
            tasks = unfinished = newest_us = 0
            if schema:
                query = "SELECT count(*), total(state NOT IN (4, 5, 6, 7)), coalesce(max(update_time), 0) FROM tasks"
                tasks, unfinished, newest_us = reading.execute(query).fetchone()
            reading.set_progress_handler(is_late, INSTRUCTIONS)
            damage = _damage(reading)
        return Inspection(schema, path.stat().st_size, tasks, int(unfinished), newest_us, damage)
    except DatabaseRefusedError as error:
        raise ConfigError([f"{path} {error}"]) from error
    except (OSError, sqlite3.Error) as error:
        raise ConfigError([f"{path} cannot be read: {error}"]) from error


@dataclass(frozen=True, slots=True)
class Driven:
    """A task that a worker drives, according to the store. Times are in Unix microseconds."""

    task_id: str
    tenant: str
    agent: str
    attempt: int
    update_time_us: int


def driven_by(path: Path, worker: str) -> list[Driven]:
    """Return the unfinished tasks that a worker drives.

    Raises:
        ConfigError: the store cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as reading:
            return [Driven(*row) for row in reading.execute(DRIVEN, (worker,)).fetchall()]
    except (OSError, sqlite3.Error) as error:
        raise ConfigError([f"{path} cannot be read: {error}"]) from error


def _damage(reading: sqlite3.Connection) -> str | None:
    try:
        (result,) = reading.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupt" in str(error):
            return None
        raise
    text = " ".join(str(result).split())
    return "" if text == "ok" else text

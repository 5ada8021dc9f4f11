"""Operations of the command line on the store's file: erase finished tasks, copy, inspect.

Servers may use the file meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from agent_service.store.sqlite import backup, inspection
from agent_service.store.sqlite.adapter import SqliteStore

ERASED_AT_ONCE = 100
# The pause between two commits lets servers write: while 20,000 tasks were erased, the slowest append took 0.1 s with
# it and 0.8 s without it (bench/retention.py).
PAUSE_S = 0.05


async def erase_finished(path: Path, before_us: int) -> AsyncGenerator[int, None]:
    """Erase tasks that finished before a time, in microseconds of Unix time. Yield how many each commit erased.

    Raises:
        ConfigError: the file cannot be opened.
        StoreError: it cannot be written.
    """
    async with SqliteStore(path) as store:
        while erased := await store.erase_finished(before_us, limit=ERASED_AT_ONCE):
            yield erased
            await asyncio.sleep(PAUSE_S)


def copy_store(path: Path, target: Path, progress: Callable[[int, int], None] | None) -> None:
    """Copy the store to a new file, as of one instant. `progress` gets the pages that are left, and all pages.

    Raises:
        ConfigError: the store cannot be read, or the target cannot be written or exists.
    """
    backup.backup(path, target, progress)


def driven_by(path: Path, worker: str) -> list[inspection.Driven]:
    """Return the tasks that a process drives, according to the store.

    Raises:
        ConfigError: the store cannot be read.
    """
    return inspection.driven_by(path, worker)

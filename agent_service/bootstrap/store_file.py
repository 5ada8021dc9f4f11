"""The store's file, for the command line: finished tasks erased, the whole copied, or looked into.

Servers may use it meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from agent_service.store.sqlite import backup, inspection
from agent_service.store.sqlite.adapter import SqliteStore

ERASED_AT_ONCE = 100
# Between two commits, so that servers get to write: the worst append beside 20,000 erased tasks took 0.1 s so, 0.8 s
# without it (bench/retention.py).
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
    """Return the tasks that a process drives, by the store alone.

    Raises:
        ConfigError: the store cannot be read.
    """
    return inspection.driven_by(path, worker)

"""The processes that share a file: only a lock that was really taken, or a counter that stands still, means an end."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_service.errors import OverloadedError
from agent_service.store.sqlite.adapter import SqliteStore
from tests.contracts.store.test_ownership import Watch, orphans
from tests.harness import SOON_S
from tests.store.events import started, submitted
from tests.store.test_sqlite import failing_writes, write_lock

WATCH = Watch()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def here(path: Path) -> AsyncIterator[SqliteStore]:
    """A store whose worker is one, which drives a task, beside two, which drives another."""
    async with SqliteStore(path, silence_max_s=5.0, clock=WATCH) as store:
        for worker in ("one", "two"):
            await store.heartbeat(worker)
            await store.append([submitted(worker), started(worker, worker=worker)], attempt=0)
        yield store


def locks(path: Path) -> list[str]:
    return sorted(file.name for file in Path(f"{path}.workers").iterdir())


def remove_lock(path: Path, worker: str) -> None:
    Path(f"{path}.workers", worker).unlink()


async def beats(store: SqliteStore, worker: str, *, seconds: int) -> int:
    """Beat once a second; how many others live at the end."""
    for _ in range(seconds):
        WATCH.now += 1.0
        await store.heartbeat(worker)
    return (await store.heartbeat(worker)).living


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
async def test_a_lock_that_cannot_be_looked_at_is_not_free(
    here: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opens = os.open

    def fails(file: Any, *args: Any, **kwargs: Any) -> int:
        if str(file).endswith("two"):
            raise OSError(number, os.strerror(number))
        return opens(file, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fails)
        assert await beats(here, "one", seconds=3) == 1
        assert await orphans(here) == []
    assert await beats(here, "one", seconds=1) == 1
    assert locks(path) == ["one", "two"]


async def test_a_counter_that_cannot_be_read_is_no_evidence_and_one_that_can_is(
    here: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def fails(file: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(file).endswith("two"):
            raise OSError(errno.EACCES, "not now")
        return stat(file, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", fails)
        assert await beats(here, "one", seconds=20) == 1
    assert await beats(here, "one", seconds=6) == 0


async def test_a_removed_lock_file_is_put_back_by_its_process_and_kills_nobody(here: SqliteStore, path: Path) -> None:
    for name in locks(path):
        remove_lock(path, name)

    assert await beats(here, "one", seconds=1) == 1
    assert await orphans(here) == []
    await here.heartbeat("two")
    assert locks(path) == ["one", "two"]
    assert await beats(here, "one", seconds=1) == 1


async def test_a_process_whose_lock_file_is_gone_and_that_does_not_come_back_is_dead(
    here: SqliteStore, path: Path
) -> None:
    remove_lock(path, "two")

    assert await beats(here, "one", seconds=6) == 0
    assert await orphans(here) == ["two"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM workers").fetchall() == [("one",)]
    # It was frozen after all, and takes its place again.
    await here.heartbeat("two")
    assert await beats(here, "one", seconds=1) == 1


async def test_a_process_that_ended_without_a_word_is_dead_at_the_next_look(here: SqliteStore, path: Path) -> None:
    async with SqliteStore(path) as other:
        await other.heartbeat("three")
        await other.append([submitted("three"), started("three", worker="three")], attempt=0)
        assert (await here.heartbeat("one")).living == 2

    assert (await here.heartbeat("one")).living == 1
    assert await orphans(here) == ["three"]
    assert locks(path) == ["one", "two"]
    assert await orphans(here) == ["three"]


async def test_a_row_that_was_removed_by_mistake_is_back_at_the_next_heartbeat(here: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM workers WHERE id = 'two'")

    await here.heartbeat("two")

    assert (await here.heartbeat("one")).living == 1
    assert await orphans(here) == []


async def test_heartbeats_wait_neither_for_writes_nor_for_reads(here: SqliteStore, path: Path) -> None:
    free = threading.Event()
    with write_lock(path):
        writes = asyncio.ensure_future(here.append([submitted("t")], attempt=0))
        reads = asyncio.ensure_future(here._reading(lambda _: free.wait(30)))
        async with asyncio.timeout(SOON_S):
            for worker in ("one", "two"):
                assert (await here.heartbeat(worker)).living == 1
        free.set()
        await reads
    await writes


async def test_heartbeats_take_no_room_on_the_disk(here: SqliteStore, path: Path) -> None:
    with failing_writes(path):
        with pytest.raises(OverloadedError):
            await here.check()
        for _ in range(10):
            await here.heartbeat("two")
            assert await beats(here, "one", seconds=1) == 1


async def test_a_process_that_cannot_read_takes_nobody_for_dead(here: SqliteStore) -> None:
    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async def read(work: Callable[[Any], object]) -> object:
        return work(SimpleNamespace(execute=fails))

    await here.heartbeat("one")
    lane = here._opened.heartbeat  # type: ignore[union-attr] # it is open
    for is_broken in [True, False] * 20:
        WATCH.now += 1.0
        object.__setattr__(here._opened, "heartbeat", SimpleNamespace(read=read) if is_broken else lane)
        if is_broken:
            with pytest.raises(OverloadedError):
                await here.heartbeat("one")
        else:
            assert (await here.heartbeat("one")).living == 1

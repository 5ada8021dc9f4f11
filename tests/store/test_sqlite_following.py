"""Following journals in a SQLite file: what an older version stored, and what a look costs."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.store.sqlite.index import FOLLOW
from tests.store.events import beginning, ending


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def test_tasks_of_an_older_version_are_followed_once_they_grow(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.append(beginning("a"), attempt=0)
        await store.append(beginning("b"), attempt=0)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP INDEX tasks_by_position; ALTER TABLE tasks DROP COLUMN position; DROP TABLE positions;"
            "PRAGMA user_version = 5;"
        )

    async with SqliteStore(path) as store:
        assert (await store.position(), await store.follow(0)) == (0, [])
        appended = await store.append(ending("a"), attempt=1)
        assert [(change.task_id, change.last_sequence) for change in await store.follow(0)] == [("a", 4)]
        assert await store.position() == appended.position == 1


async def test_a_look_reads_what_grew_and_nothing_else(path: Path) -> None:
    """Counted in SQLite's own instructions: the plan says that it searches, not from where."""
    instructions = 0

    def count() -> int:
        nonlocal instructions
        instructions += 1
        return 0

    async with SqliteStore(path) as store:
        await asyncio.gather(*(store.append(beginning(f"t{n}"), attempt=0) for n in range(500)))
        now = await store.position()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(FOLLOW, (now, 100)).fetchall()  # the first one reads the schema
            connection.set_progress_handler(count, 1)
            assert len(connection.execute(FOLLOW, (now - 1, 100)).fetchall()) == 1
    assert instructions < 50

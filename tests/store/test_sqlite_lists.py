"""How a store on disk finds what is listed: from which index, within which bounds."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_service.errors import OverloadedError
from agent_service.store.base import TaskQuery
from agent_service.store.sqlite import adapter, index, readers
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.store.sqlite.index import list_tasks, listing
from agent_service.v1 import error_reason_pb2 as reasons
from tests.store.events import beginning, submitted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.mark.parametrize(
    ("query", "search"),
    [
        (TaskQuery(tenant="acme"), "t USING INDEX tasks_of_tenant (tenant=?"),
        (TaskQuery(tenant="acme", states=frozenset({1, 2})), "t USING INDEX tasks_unfinished_of_tenant (tenant=?"),
        (TaskQuery(tenant="acme", agent="planner"), "t USING INDEX tasks_of_agent (tenant=? AND agent=?"),
        (TaskQuery(tenant="acme", submitted_by="ci"), "t USING INDEX tasks_of_key (tenant=? AND submitted_by=?"),
        (
            TaskQuery(tenant="acme", submitted_by="ci", agent="planner", before=7),
            "t USING INDEX tasks_of_key (tenant=? AND submitted_by=? AND rowid<?)",
        ),
        (
            TaskQuery(tenant="acme", submitted_by="ci", states=frozenset({1, 2})),
            "t USING INDEX tasks_unfinished_of_tenant (tenant=?",
        ),
        (TaskQuery(tenant="acme", session_id="s"), "t USING INDEX tasks_of_session (tenant=? AND session_id=?"),
        (TaskQuery(tenant="acme", labels={"env": "a"}), "l USING PRIMARY KEY (tenant=? AND key=? AND value=?"),
        (
            TaskQuery(tenant="acme", labels={"env": "a", "team": "b"}, agent="planner", before=7),
            "l USING PRIMARY KEY (tenant=? AND key=? AND value=? AND task_key<?)",
        ),
    ],
)
async def test_a_list_is_read_in_order_from_the_index_that_leaves_the_fewest(
    path: Path, query: TaskQuery, search: str
) -> None:
    async with SqliteStore(path):
        with closing(sqlite3.connect(path)) as connection:
            sql, values = listing(query)
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert plan[0].startswith(f"SEARCH {search}"), plan
    assert not [step for step in plan if "TEMP B-TREE" in step]


async def test_a_list_that_finds_nothing_looks_through_no_more_than_it_may(path: Path) -> None:
    async with SqliteStore(path) as store:
        await asyncio.gather(*(store.append(beginning(f"t{n}"), attempt=0) for n in range(3000)))
        with closing(sqlite3.connect(path)) as connection:
            query = TaskQuery(tenant="acme", states=frozenset({7}), walked_max=100)
            assert instructions(connection, query) < 2000
            assert instructions(connection, replace(query, walked_max=None)) > 10_000


def instructions(connection: sqlite3.Connection, query: TaskQuery) -> int:
    """How many of SQLite's instructions a list takes, in steps of 100."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 100
        return 0

    connection.set_progress_handler(count, 100)
    list_tasks(connection, query)
    return taken


async def test_a_list_that_takes_too_long_is_interrupted_and_the_next_is_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "LIST_MAX_S", 0.0)
    monkeypatch.setattr(readers, "INSTRUCTIONS", 1000)
    async with SqliteStore(path) as store:
        await asyncio.gather(*(store.append(beginning(f"t{n}"), attempt=0) for n in range(2000)))
        with pytest.raises(OverloadedError, match="looked for longer than 0 s") as caught:
            await store.list_tasks(TaskQuery(tenant="acme", states=frozenset({7})))
        assert caught.value.reason == reasons.ERROR_REASON_OVERLOADED
        assert len((await store.list_tasks(TaskQuery(tenant="acme", limit=1))).rows) == 1
        assert len(await store.read("t7")) == 2


async def test_tasks_of_an_older_version_are_found_by_their_key_too(path: Path) -> None:
    async with SqliteStore(path) as store:
        for n, key in enumerate(["ci", "batch", "ci"]):
            await store.append([submitted(f"t{n}", key=key)], attempt=0)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP INDEX tasks_by_position; ALTER TABLE tasks DROP COLUMN position; DROP TABLE positions;"
            "DROP INDEX tasks_of_key; ALTER TABLE tasks DROP COLUMN submitted_by; PRAGMA user_version = 4;"
        )

    async with SqliteStore(path) as store:
        await store.append([submitted("t3", key="ci")], attempt=0)
        found = await store.list_tasks(TaskQuery(tenant="acme", submitted_by="ci"))
    assert [row.task_id for row in found.rows] == ["t3", "t2", "t0"]


@pytest.mark.parametrize("stuck", ["lists", "journals"])
async def test_lists_and_journals_that_take_long_keep_nothing_else_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    ends = threading.Event()

    def hang(*_: Any) -> list[Any]:
        ends.wait()
        return []

    async with SqliteStore(path) as store:
        await store.append(beginning("t"), attempt=0)
        reads: dict[str, Callable[[], Awaitable[Any]]] = {
            "lists": lambda: store.list_tasks(TaskQuery()),
            "journals": lambda: store.read("t"),
        }
        with monkeypatch.context() as patched:
            patched.setattr(*((index, "list_tasks") if stuck == "lists" else (adapter, "_read")), hang)
            hung = [asyncio.ensure_future(reads[stuck]()) for _ in range(10)]
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(30):
                assert await store.find("t") is not None
                assert (await store.heartbeat("here")).living == 0
                assert len(await store.orphans("here", begun=True)) == 1
                assert await reads["journals" if stuck == "lists" else "lists"]()
        finally:
            ends.set()
            await asyncio.gather(*hung)

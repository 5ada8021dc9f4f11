"""What the SQLite store does about usage that no other does: it fills it for journals older than itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from agent_service.store.sqlite import migrations
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.store.sqlite.usage import asking
from agent_service.store.usage import UsageQuery
from tests.contracts.store.test_usage import accepted, tool_started, used
from tests.store.events import event, started

EVERYTHING = UsageQuery(bucket_hours=1, group_by=frozenset({"tenant", "agent", "model"}))


def make_old(path: Path) -> None:
    """As a version left it that kept no sums."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP INDEX tasks_by_position; ALTER TABLE tasks DROP COLUMN position; DROP TABLE positions;"
            "DROP INDEX tasks_of_key; ALTER TABLE tasks DROP COLUMN submitted_by;"
            "DROP INDEX tasks_released; DROP INDEX tasks_of_agent; DROP TABLE usage;"
            "ALTER TABLE tasks DROP COLUMN asked;"
            "PRAGMA user_version = 1; VACUUM;"
        )


async def test_a_store_of_an_older_version_is_summed_up_from_its_journals(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path) as store:
        asks = used("model_started", "a", model="spare")
        await store.append([accepted("a"), started("a"), tool_started("a", "c1"), asks], attempt=0)
        await store.append([started("a", attempt=2), tool_started("a", "c1", attempt=2)], attempt=1)
        failed = used("model_failed", "b", hour=3, input_tokens=7, estimated=True, cost_nanos=11)
        await store.append([accepted("b", tenant="globex"), started("b"), failed], attempt=0)
        before = await store.usage(EVERYTHING)
    make_old(path)

    async with SqliteStore(path) as store:
        assert await store.usage(EVERYTHING) == before
        # The request that was under way then still belongs to its model.
        await store.append([used("model_replied", "a", attempt=2, output_tokens=5)], attempt=2)
        (spare,) = await store.usage(UsageQuery(model="spare"))
        assert spare.amounts.output_tokens == 5


async def test_an_event_that_cannot_be_read_keeps_nobody_from_opening_the_store(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path) as store:
        await store.append([accepted("a"), started("a")], attempt=0)
        await store.append([accepted("b"), started("b"), event("completed", "b", attempt=1)], attempt=0)
    make_old(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET payload = x'ff' WHERE task_key = 1 AND sequence = 1")
        connection.commit()

    async with SqliteStore(path) as store:
        assert [row.amounts.tasks for row in await store.usage(UsageQuery())] == [1]


async def test_a_store_of_the_newest_version_is_filled_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for n in range(2):
        async with SqliteStore(path) as store:
            await store.append([accepted(f"t{n}")], attempt=0)
    async with SqliteStore(path) as store:
        assert [row.amounts.tasks for row in await store.usage(UsageQuery())] == [2]


async def test_the_usage_of_one_tenant_in_a_time_is_found_without_looking_at_others(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "journal.db"):
        sql, values = asking(UsageQuery("acme", since_hour=1, before_hour=2))
        with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    assert "SEARCH usage USING PRIMARY KEY (tenant=? AND hour>? AND hour<?)" in str(plan)


def test_only_versions_that_have_a_script_are_filled() -> None:
    assert migrations.FILLS.keys() <= {version for version, _ in migrations.scripts()}

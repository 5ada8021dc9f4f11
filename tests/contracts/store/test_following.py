"""What every store says of journals that grow, to whoever follows from a position."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent_service.store.base import Change, Database
from agent_service.store.sqlite.adapter import SqliteStore
from tests.contracts.stores import numbered
from tests.store.events import beginning, ending, event


async def grown(store: Database, after: int) -> dict[str, int]:
    return {change.task_id: change.last_sequence for change in await store.follow(after)}


async def test_an_empty_store_has_nothing_to_follow(store: Database) -> None:
    assert await store.position() == 0
    assert await store.follow(0) == []


async def test_who_follows_from_now_gets_what_comes_later_alone(store: Database) -> None:
    await store.append(beginning("a"), attempt=0)
    await store.append(beginning("b"), attempt=0)
    now = await store.position()
    assert await store.follow(now) == []

    appended = await store.append(ending("a"), attempt=1)

    assert await store.follow(now) == [Change("a", 4, appended.position)]
    assert await store.position() == appended.position > now


async def test_a_journal_comes_once_with_its_end_in_the_order_of_the_last_appends(store: Database) -> None:
    for task_id in ("a", "b", "c"):
        await store.append(beginning(task_id), attempt=0)
    await store.append([event("cancel_requested", "a", attempt=1)], attempt=None)

    changes = await store.follow(0)

    assert [(change.task_id, change.last_sequence) for change in changes] == [("b", 2), ("c", 2), ("a", 3)]
    assert [change.position for change in changes] == sorted({change.position for change in changes})


async def test_pages_lead_through_all_that_grew(store: Database) -> None:
    await asyncio.gather(*(store.append(beginning(f"t{n}"), attempt=0) for n in range(130)))
    found: list[str] = []
    after = 0
    while changes := await store.follow(after, limit=50):
        assert len(changes) <= 50
        found += [change.task_id for change in changes]
        after = changes[-1].position
    assert sorted(found) == sorted(f"t{n}" for n in range(130))
    assert after == await store.position()


async def test_appends_of_one_task_that_share_a_commit_are_one_change(store: Database) -> None:
    begun, ended = await asyncio.gather(store.append(beginning(), attempt=0), store.append(ending(), attempt=1))
    assert begun.position <= ended.position
    assert await store.follow(0) == [Change("t", 4, ended.position)]


async def test_a_refused_append_is_no_change(store: Database) -> None:
    appended = await store.append(beginning(), attempt=0)
    await asyncio.gather(store.append(ending(), attempt=7), return_exceptions=True)
    assert await store.position() == appended.position
    assert await grown(store, appended.position) == {}


async def test_an_erased_task_gives_its_position_to_no_other(store: Database) -> None:
    await store.append(beginning("a") + ending("a"), attempt=0)
    now = await store.position()
    assert await store.erase("a")

    await store.append(beginning("b"), attempt=0)

    assert await grown(store, now) == {"b": 2}


async def test_a_process_sees_what_another_one_has_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path) as here, SqliteStore(path) as there:
        events = beginning()
        appended = await there.append(events, attempt=0)
        assert await here.follow(0) == [Change("t", 2, appended.position)]
        assert await here.read("t") == numbered(events)
        later = await here.append(ending(), attempt=1)
        assert await there.follow(appended.position) == [Change("t", 4, later.position)]

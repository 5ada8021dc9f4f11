"""How every store forgets."""

from __future__ import annotations

import pytest

from agent_service.journal.refusals import SessionBusyError
from agent_service.store.base import Database, TaskQuery
from tests.store.events import AT, event, started, submitted

AT_US = AT.ToMicroseconds()


async def finished(store: Database, task_id: str, *, at_s: float = 0.0, session: str = "", request: str = "") -> None:
    end = event("completed", task_id, attempt=1)
    end.create_time.FromMicroseconds(AT_US + int(at_s * 1e6))
    first = submitted(task_id, session=session, request=request, labels={"env": "prod"})
    await store.append([first, started(task_id), end], attempt=0)


async def left(store: Database) -> list[str]:
    return [row.task_id for row in (await store.list_tasks(TaskQuery(limit=99))).rows]


async def test_an_erased_task_is_as_if_it_had_never_been(store: Database) -> None:
    await finished(store, "a", request="r", session="s")
    await finished(store, "b")

    assert await store.erase("a")

    assert await store.read("a") == []
    assert await left(store) == ["b"]
    assert [row.task_id for row in (await store.list_tasks(TaskQuery(tenant="acme", labels={"env": "prod"}))).rows] == [
        "b"
    ]
    assert not await store.erase("a")
    await finished(store, "a", request="r", session="s")


async def test_what_is_not_over_is_not_erased(store: Database) -> None:
    await store.append([submitted("a"), started("a")], attempt=0)

    assert not await store.erase("a")
    assert not await store.erase("nobody")
    assert await store.erase_finished(AT_US + 10**12, limit=10) == 0
    assert len(await store.read("a")) == 2


async def test_a_session_goes_as_a_whole_or_not_at_all(store: Database) -> None:
    await finished(store, "a", session="s")
    await store.append([submitted("b", session="s"), started("b")], attempt=0)
    await finished(store, "c", session="other")

    with pytest.raises(SessionBusyError) as busy:
        await store.erase_session("acme", "s")
    assert busy.value.unfinished == 1
    assert await left(store) == ["c", "b", "a"]

    await store.append([event("failed", "b", attempt=1)], attempt=1)
    assert await store.erase_session("globex", "s") == 0
    assert await store.erase_session("acme", "s") == 2
    assert await store.erase_session("acme", "s") == 0
    assert await left(store) == ["c"]


async def test_old_tasks_go_oldest_first_some_at_a_time(store: Database) -> None:
    for n in (5, 1, 3, 4, 2):
        await finished(store, f"t{n}", at_s=n)

    assert await store.erase_finished(AT_US + 4_000_000, limit=2) == 2
    assert sorted(await left(store)) == ["t3", "t4", "t5"]
    assert await store.erase_finished(AT_US + 4_000_000, limit=2) == 1
    assert await store.erase_finished(AT_US + 4_000_000, limit=2) == 0
    assert sorted(await left(store)) == ["t4", "t5"]

"""How every store looks back."""

from __future__ import annotations

import pytest

from agent_service.store.base import Database, Recent
from agent_service.store.sqlite import recent as recent_rows
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.contracts.stores import arms
from tests.store.events import AT, event, started, submitted

AT_US = AT.ToMicroseconds()


def at(made: TaskEvent, seconds: float) -> TaskEvent:
    made.create_time.FromMicroseconds(AT_US + int(seconds * 1e6))
    return made


async def recent(store: Database, since_s: float) -> list[Recent]:
    return [task async for page in store.recent(AT_US + int(since_s * 1e6)) for task in page]


async def test_tells_of_each_task_what_happened_since_then(store: Database) -> None:
    await store.append(
        [submitted("old"), at(started("old"), 1), at(event("completed", "old", attempt=1), 9.9)], attempt=0
    )
    await store.append([submitted("late", tenant="globex", agent="other"), at(started("late"), 1)], attempt=0)
    await store.append([at(event("model_started", "late", attempt=1), 11)], attempt=1)
    await store.append([at(event("failed", "late", attempt=1), 12)], attempt=1)
    await store.append([submitted("open", at_s=10)], attempt=0)
    await store.append([submitted("quiet"), at(started("quiet"), 2)], attempt=0)

    told = {(task.tenant, task.agent): task.events for task in await recent(store, 10)}

    assert {whose: arms(events) for whose, events in told.items()} == {
        ("globex", "other"): ["model_started", "failed"],
        ("acme", "assistant"): ["submitted"],
    }
    assert [each.sequence for each in told["globex", "other"]] == [3, 4]
    assert await recent(store, 13) == []


async def test_tells_of_each_task_once_however_many_there_are(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_rows, "PAGE", 3)
    for n in range(10):
        await store.append([submitted(f"open-{n}", agent=f"open-{n}")], attempt=0)
        end = at(event("completed", f"over-{n}", attempt=1), 1 + n // 4)
        await store.append([submitted(f"over-{n}", agent=f"over-{n}"), started(f"over-{n}"), end], attempt=0)

    told = [task.agent for task in await recent(store, 0)]

    assert sorted(told) == sorted([f"open-{n}" for n in range(10)] + [f"over-{n}" for n in range(10)])


async def test_a_task_that_ends_meanwhile_is_told_once(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_rows, "PAGE", 1)
    for task_id in ("a", "b"):
        await store.append([submitted(task_id, agent=task_id), started(task_id)], attempt=0)
    told = []
    async for page in store.recent(AT_US):
        told += [task.agent for task in page]
        if told == ["a"]:
            await store.append([at(event("completed", "a", attempt=1), 5)], attempt=1)
    assert told == ["a", "b"]

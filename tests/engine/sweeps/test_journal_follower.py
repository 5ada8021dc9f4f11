"""Watchers of a task that another process of the same store drives."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from agent_service.engine.timing import Timing
from agent_service.errors import OverloadedError
from agent_service.store.base import Change
from agent_service.store.memory import MemoryStore
from agent_service.v1.error_reason_pb2 import ERROR_REASON_STORE_UNAVAILABLE
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.harness import FakeModel, Parts, Running, started
from tests.service.worlds import Gate, until


class FaultyStore(MemoryStore):
    """Fails to tell what has grown, with one error of a list after the other."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def follow(self, after_position: int, *, limit: int = 1000) -> list[Change]:
        if self.errors:
            raise self.errors.pop(0)
        return await super().follow(after_position, limit=limit)


async def watched(running: Running, task_id: str) -> list[TaskEvent]:
    async with asyncio.timeout(20), aclosing(running.client.watch(task_id)) as events:
        return [event async for event in events]


async def test_they_see_its_journal_and_none_of_its_text() -> None:
    gate, store = Gate(), MemoryStore()
    async with (
        started(Parts(timing=Timing(follow=0.001), store=store, model=FakeModel(gate.step))) as here,
        started(Parts(timing=Timing(follow=0.001), store=store)) as there,
    ):
        task = await here.client.submit("go")
        await gate.holds()
        watchers = [asyncio.ensure_future(watched(there, task.id)) for _ in range(3)]
        await until(lambda: task.id in there.service.feed.watched())
        gate.open()
        seen = await asyncio.gather(*watchers)
        assert seen == [await store.read(task.id)] * 3


async def test_looking_goes_on_after_a_look_that_failed() -> None:
    gate = Gate()
    store = FaultyStore(OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "away"), RuntimeError("a bug"))
    async with (
        started(Parts(timing=Timing(follow=0.001), store=store, model=FakeModel(gate.step))) as here,
        started(Parts(timing=Timing(follow=0.001), store=store)) as there,
    ):
        task = await here.client.submit("go")
        await gate.holds()
        watcher = asyncio.ensure_future(watched(there, task.id))
        await until(lambda: not store.errors)
        gate.open()
        assert (await watcher)[-1].HasField("completed")
        faults = [line for line in [*here.log, *there.log] if line["event"] == "sweep_failed"]
        assert [line["sweep"] for line in faults] == ["follow"]

"""A call whose caller goes away while the store acknowledges what it wrote: nothing of that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent_service.store.base import Appended
from agent_service.store.memory import MemoryStore
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.harness import FakeModel, Parts, started
from tests.service.worlds import Gate, until


class Late(MemoryStore):
    """Stores a cancellation, and acknowledges it only once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.stored, self.may_acknowledge = asyncio.Event(), asyncio.Event()

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        appended = await super().append(events, attempt=attempt, after=after)
        if events[-1].HasField("canceled"):
            self.stored.set()
            await self.may_acknowledge.wait()
        return appended


async def test_a_queued_task_that_it_canceled_is_logged_and_counted() -> None:
    gate, store = Gate(), Late()
    async with started(Parts(model=FakeModel(gate.step), store=store, running_max=1)) as running:
        await running.client.submit("first")
        await gate.holds(1)
        queued = (await running.client.submit("second")).id
        canceling = asyncio.create_task(running.client.cancel(queued))
        await store.stored.wait()
        canceling.cancel()
        await until(lambda: any(line.get("code") == "CANCELLED" for line in running.log))
        store.may_acknowledge.set()
        await until(lambda: any(line["event"] == "task" and line["task_id"] == queued for line in running.log))
        assert running.metrics.tasks_ended("AGENT", "CANCELED", "USER").value == 1

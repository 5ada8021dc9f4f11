"""What does not grow with a task, nor with the number of tasks."""

from __future__ import annotations

import statistics
import time
from contextlib import aclosing

from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.store.memory import MemoryStore
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import FINISH_REASON_TOOL_CALLS, TaskEvent, TaskLimits
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall
from tests.harness import Parts, reply, started

TURNS = 250
EVENTS = 4 * TURNS + 5


class CountingStore(MemoryStore):
    """Counts the events that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        events = await super().read(task_id, after_sequence=after_sequence, limit=limit)
        self.reads.append(len(events))
        return events


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


class ManyTurns:
    """Asks for a tool in every turn but the last; its own work is the same in each of them."""

    def __init__(self) -> None:
        self.cpu_s: list[float] = []

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await observer.started("fake", 1)
        self.cpu_s.append(time.process_time())
        if len(self.cpu_s) > TURNS:
            return reply("done")
        call = ToolCall(id=f"c{len(self.cpu_s)}", name="look", arguments_json="{}")
        return ModelReply("", [call], FINISH_REASON_TOOL_CALLS, Usage(input_tokens=1), "fake-1")


async def test_a_long_task_costs_what_short_ones_do_and_is_read_as_soon_as_they_are() -> None:
    model, store = ManyTurns(), CountingStore()
    limits = TaskLimits(turns=TURNS + 1, tool_calls=TURNS, parallel_tools=1)
    async with started(Parts(model=model, tools=[look], limits=limits, store=store)) as running:
        task = await running.client.run("go")
        assert (task.output, task.last_sequence) == ("done", EVENTS)

        store.reads.clear()
        for after in (EVENTS, EVENTS - 1):
            async with aclosing(running.client.watch(task.id, after_sequence=after)) as events:
                assert [event.sequence async for event in events] == list(range(after + 1, EVENTS + 1))
        assert store.reads == [0, 1]
        assert await running.client.get_task(task.id) == task
        assert len((await running.client.list_tasks()).tasks) == 1
        assert (await running.client.cancel(task.id)).state == task.state
        assert store.reads == [0, 1]

    turns = [after - before for before, after in zip(model.cpu_s, model.cpu_s[1:], strict=False)]
    # `make bench-long` measures it; here a machine that does other things must not matter, and growth must.
    assert statistics.median(turns[-80:]) < 3 * statistics.median(turns[:80])

"""What must not grow: the time of a look at one task among many, and the cost of an event in a long task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest, Role
from agent_service.store.base import Database
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import FINISH_REASON_TOOL_CALLS, TaskEvent, TaskLimits
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, Usage
from agent_service.v1.tool_pb2 import ToolCall
from tests.harness import Parts, Running, reply, started
from tests.store.events import beginning, ending, event

FEW, MANY = 100, 10_000
LONG_EVENTS = 1000
TURNS_LONG, TURNS_SHORT = 250, 2
EVENTS_A_TURN = 4


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


async def fill(store: Database, first: int, last: int) -> None:
    """Finished tasks, as the engine leaves them."""
    for start in range(first, last, 500):
        ids = [f"task{number:06}" for number in range(start, min(start + 500, last))]
        # In one append each: a task that stands open for long is taken over.
        await asyncio.gather(*(store.append([*beginning(task_id), *ending(task_id)], attempt=0) for task_id in ids))


async def long_task(store: Database) -> str:
    steps = [event("model_replied", "long", attempt=1, text="x") for _ in range(LONG_EVENTS - 4)]
    await store.append([*beginning("long"), *steps, *ending("long")], attempt=0)
    return "long"


async def seconds(call: Callable[[], Awaitable[object]], times: int = 21) -> float:
    """The quickest of several: what the work takes where nothing else holds it up."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return min(took)


@asynccontextmanager
async def on_a_file(folder: Path) -> AsyncIterator[tuple[Database, Running]]:
    async with SqliteStore(folder / "scale.db") as store, started(Parts(store=store)) as running:
        yield store, running


async def test_lists_and_watches_take_as_long_beside_10000_tasks_as_beside_100(tmp_path: Path) -> None:
    async with on_a_file(tmp_path) as (store, running):
        await fill(store, 0, FEW)
        task_id = await long_task(store)

        async def page() -> None:
            listed = await running.client.list_tasks(states=[TASK_STATE_COMPLETED], page_size=50)
            assert len(listed.tasks) == 50

        async def watch(after: int, expected: int) -> None:
            seen = [event async for event in running.client.watch(task_id, after_sequence=after)]
            assert len(seen) == expected

        few = await seconds(page), await seconds(lambda: watch(LONG_EVENTS, 0))
        await fill(store, FEW, MANY)
        many = await seconds(page), await seconds(lambda: watch(LONG_EVENTS, 0))
        short_tail = await seconds(lambda: watch(LONG_EVENTS - 1, 1))
    told = ", ".join(f"{a * 1000:.1f} -> {b * 1000:.1f} ms" for a, b in zip(few, many, strict=True))
    print(f"list, watch from the end: {told}; one event of 1,000: {short_tail * 1000:.1f} ms")  # noqa: T201 - wanted
    # A hundred times as many tasks would take a hundred times as long. The machine may be busy with other things.
    assert many[0] < 10 * few[0]
    assert many[1] < 10 * few[1]
    assert short_tail < 10 * few[1]


class Loops:
    """A model that asks for a tool so many times, at no cost of its own that grows."""

    def __init__(self, turns: int) -> None:
        self._turns = turns

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await observer.started("fake", 1)
        played = len(request.messages) // 2 if request.messages[-1].role is Role.TOOL else 0
        if played >= self._turns:
            return reply("done")
        call = ToolCall(id=f"c{played}", name="look", arguments_json="{}")
        return ModelReply("", [call], FINISH_REASON_TOOL_CALLS, Usage(input_tokens=1, output_tokens=1), "fake")


async def cpu_us(turns: int, tasks: int) -> float:
    """Of a whole task, over the wire, from the call to its answer."""
    limits = TaskLimits(turns=turns + 1, tool_calls=turns, parallel_tools=1)
    async with started(Parts(model=Loops(turns), tools=[look], limits=limits)) as running:
        await running.client.run("warm")
        began = time.process_time()
        for _ in range(tasks):
            task = await running.client.run("go")
            assert task.state == TASK_STATE_COMPLETED
        spent = time.process_time() - began
        assert task.last_sequence == EVENTS_A_TURN * turns + 5
        return spent / tasks * 1e6


async def test_an_event_of_a_task_of_1000_costs_no_more_than_one_of_a_short_task() -> None:
    ratios = []
    for _ in range(3):
        # What the call and the task cost beside their turns is taken off.
        nothing = await cpu_us(0, 100)
        short = (await cpu_us(TURNS_SHORT, 100) - nothing) / (EVENTS_A_TURN * TURNS_SHORT)
        long = (await cpu_us(TURNS_LONG, 2) - nothing) / (EVENTS_A_TURN * TURNS_LONG)
        ratios.append(long / short)
    print(f"CPU an event, long to short: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")  # noqa: T201 - wanted
    assert min(ratios) <= 1.2


async def test_a_reader_gets_a_long_journal_in_pages() -> None:
    async with started(Parts(model=Loops(60), tools=[look], limits=TaskLimits(turns=61, tool_calls=60))) as running:
        task = await running.client.run("go")
        seen: list[TaskEvent] = [event async for event in running.client.watch(task.id)]
    assert [event.sequence for event in seen] == list(range(1, task.last_sequence + 1))

"""What the length of a task, and the number of finished ones, adds to the cost of an event, a list and a watcher.

    make bench-long

In one process, on a SQLite file with every commit synced. First tasks are driven whose model answers at once, whatever
was said before: one of 1,005 events, beside so many of 9 as make up as much. Then
the store is filled with finished tasks, and pages of lists and watchers that begin at the end of a long task are timed
beside a few tasks and beside many. Of the CPU of an event it is the least of some rounds: what else the machine does
only adds to it; of the times it is the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.agents.tool_agent import ToolAgent
from agent_service.bootstrap.assemble import ServiceParts, assemble
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.runtime import AgentRuntime, ModelRuntime
from agent_service.keys.base import Principal, Scope
from agent_service.keys.ring import KeyRing
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest, ToolSpec
from agent_service.observe.log import EventLog, render_json
from agent_service.observe.metrics import Metrics
from agent_service.service.catalog import Catalog
from agent_service.service.requests import ListTasksInput
from agent_service.service.service import Service
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.tools.decorator import tool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner
from agent_service.v1.task_event_pb2 import (
    FINISH_REASON_STOP,
    FINISH_REASON_TOOL_CALLS,
    AttemptStarted,
    ModelStarted,
    TaskCompleted,
    TaskEvent,
    TaskLimits,
    TaskSubmitted,
)
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall

# A turn with a call is four events; the beginning, the last turn and the end are five.
EVENTS_A_TURN, EVENTS_BESIDE = 4, 5
LONG_TURNS, SHORT_TURNS = 250, 1
WARM_TURNS = 25
EVENTS_LONG = EVENTS_BESIDE + EVENTS_A_TURN * LONG_TURNS
PRINCIPAL = Principal("bench", "bench", frozenset(Scope))


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


class Turns:
    """A model that asks for a tool in so many turns. `at` tells of every turn that begins."""

    def __init__(self, turns: int, at: Callable[[int], object] = lambda _: None) -> None:
        self._turns = turns
        self._at = at
        self._turn = 0

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await observer.started("bench", 1)
        self._turn += 1
        self._at(self._turn)
        if self._turn > self._turns:
            return ModelReply("done", [], FINISH_REASON_STOP, Usage(input_tokens=1), "bench")
        call = ToolCall(id=f"call_{self._turn}", name="look", arguments_json="{}")
        return ModelReply("", [call], FINISH_REASON_TOOL_CALLS, Usage(input_tokens=1), "bench")


@asynccontextmanager
async def world() -> AsyncIterator[Service]:
    with tempfile.TemporaryDirectory() as directory:
        log = EventLog("INFO", render_json, lambda _: None)
        async with SqliteStore(Path(directory) / "bench.db") as store:
            metrics, catalog, keys = Metrics("bench"), Catalog([], ToolRegistry(), default_agent=""), KeyRing([])
            parts = ServiceParts(catalog=catalog, keys=keys, store=store, log=log, metrics=metrics)
            service = assemble(parts)
            yield service
            await service.close()


async def drive(runner: Runner, task_id: str, model: Turns) -> int:
    """Run one task to its end; how many events it has."""
    spec = ToolSpec(look.name, look.description, look.input_schema_json)
    asked = ModelRuntime("bench", model, 100)
    toolsets = {"look": PythonToolset([look], ToolRunner())}
    runtime = AgentRuntime("assistant", ToolAgent(), asked, {"look": look}, (spec,), toolsets=toolsets)
    submitted = TaskSubmitted(tenant="bench", agent="assistant", task="go", model="bench")
    submitted.limits.CopyFrom(TaskLimits(turns=LONG_TURNS + 1, tool_calls=LONG_TURNS, parallel_tools=1))
    submitted.deadline.FromNanoseconds(time.time_ns() + 3600 * 10**9)
    running = runner.start(task_id, submitted, runtime)
    await running.ended()
    task = running.folded.task
    assert task.output == "done", task
    return task.last_sequence


@dataclass(frozen=True)
class Costs:
    """CPU of one event in µs: of short tasks, of the last and the first tenth of the long one, and of all of it."""

    short: float
    long: float
    first: float
    last: float


async def cost_of_events() -> Costs:
    async with world() as service:
        runner = service.runner
        for number in range(20):
            await drive(runner, f"warm-{number}", Turns(SHORT_TURNS))
        cpu: dict[int, float] = {}
        began = time.process_time()
        events = await drive(runner, "long", Turns(LONG_TURNS, lambda turn: cpu.setdefault(turn, time.process_time())))
        long_us = (time.process_time() - began) / events * 1e6
        began = time.process_time()
        short_events = 0
        while short_events < events:
            short_events += await drive(runner, f"short-{short_events}", Turns(SHORT_TURNS))
        short_us = (time.process_time() - began) / short_events * 1e6
    tenth = EVENTS_A_TURN * WARM_TURNS
    first_us = (cpu[1 + WARM_TURNS] - cpu[1]) / tenth * 1e6
    last_us = (cpu[LONG_TURNS] - cpu[LONG_TURNS - WARM_TURNS]) / tenth * 1e6
    return Costs(short_us, long_us, first_us, last_us)


def finished(task_id: str, now: Timestamp) -> list[TaskEvent]:
    """A whole task, to be appended at once."""
    events = [
        TaskEvent(submitted=TaskSubmitted(tenant="bench", agent="assistant", task="go", labels={"env": "bench"})),
        TaskEvent(attempt=1, attempt_started=AttemptStarted(worker="gone")),
        TaskEvent(attempt=1, model_started=ModelStarted(turn=1, try_number=1)),
        TaskEvent(attempt=1, completed=TaskCompleted(output="done")),
    ]
    for event in events:
        event.task_id = task_id
        event.create_time.CopyFrom(now)
    return events


async def fill(store: SqliteStore, first: int, last: int) -> None:
    """Finished tasks, many to a commit."""
    now = Timestamp()
    now.GetCurrentTime()
    for start in range(first, last, 500):
        tasks = range(start, min(start + 500, last))
        await asyncio.gather(*(store.append(finished(f"task-{number}", now), attempt=0) for number in tasks))


async def timed_ms(call: Callable[[], Awaitable[object]], rounds: int) -> float:
    """The median time of a call."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def times_beside(service: Service, rounds: int) -> dict[str, float]:
    """How long reading takes, beside what is stored now."""
    reader, watcher = service.reader, service.watcher

    async def page(**wanted: Any) -> str:
        tasks, token = await reader.list_tasks(PRINCIPAL, ListTasksInput(**wanted))
        assert len(tasks) == 50
        return token

    async def watch(task_id: str, after: int) -> None:
        async with watcher.watch(task_id, after) as events:
            assert not [event async for event in events]

    token = await page()
    return {
        "ListTasks, first page of 50": await timed_ms(page, rounds),
        "ListTasks, next page of 50": await timed_ms(lambda: page(page_token=token), rounds),
        "ListTasks, by label and agent": await timed_ms(
            lambda: page(labels={"env": "bench"}, agent="assistant"), rounds
        ),
        "WatchTask, end of 4 events": await timed_ms(lambda: watch("task-1", 4), rounds),
        f"WatchTask, end of {EVENTS_LONG} events": await timed_ms(lambda: watch("long", EVENTS_LONG), rounds),
        f"GetTask, of {EVENTS_LONG} events": await timed_ms(lambda: reader.get(PRINCIPAL, "long"), rounds),
    }


async def events(rounds: int) -> None:
    for _ in range(rounds):
        print(json.dumps(asdict(await cost_of_events())), flush=True)


async def bench(rounds: int, few: int, many: int) -> None:
    costs = [await cost_of_events() for _ in range(rounds)]
    least = Costs(*(min(figures) for figures in zip(*(astuple(one) for one in costs), strict=True)))
    print(f"CPU of an event: {least.short:.0f} us in tasks of 9, {least.long:.0f} us in a task of {EVENTS_LONG}")
    print(f"ratio long / short: {least.long / least.short:.2f}   ({rounds} rounds)")
    print(f"ratio last / first tenth of the long one: {least.last / least.first:.2f}")
    async with world() as service:
        runner = service.runner
        store = service.workers
        assert isinstance(store, SqliteStore)
        await drive(runner, "long", Turns(LONG_TURNS))
        await fill(store, 0, few)
        beside_few = await times_beside(service, 50)
        await fill(store, few, many)
        beside_many = await times_beside(service, 50)
    print(f"{'':<34}{few:>10}{many:>10} finished tasks")
    for what, ms in beside_few.items():
        print(f"{what:<34}{ms:>8.2f}ms{beside_many[what]:>8.2f}ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--events", action="store_true", help="events alone: a JSON object for each round")
    given = parser.parse_args()
    uvloop.run(events(given.rounds) if given.events else bench(given.rounds, given.few, given.many))

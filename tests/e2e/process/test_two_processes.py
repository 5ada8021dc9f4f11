"""Two servers on one store: what one runs the other shows, cancels, repeats, and goes on with."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_service.client import AsyncClient
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_LOST, TaskEvent
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_USER,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_WORKING,
)
from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.harness import SOON_S

CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default, tools: [echo]}
"""
SCRIPT = """
- match: steps
  turns:
    - {tool_calls: [{name: echo, arguments: {text: a}}], delay_s: 0.1}
    - {tool_calls: [{name: echo, arguments: {text: b}}], delay_s: 0.1}
    - {tool_calls: [{name: echo, arguments: {text: c}}], delay_s: 0.1}
    - {tool_calls: [{name: echo, arguments: {text: d}}], delay_s: 0.1}
    - {text: done, delay_s: 0.1}
- match: slow
  turns:
    - {text: slowly, delay_s: 4}
- match: stuck
  turns:
    - {text: at last, delay_s: 9}
"""


@asynccontextmanager
async def two(directory: Path, **settings: str) -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "script.yaml").write_text(SCRIPT)
    settings |= {"LLM_PROVIDER": ""}
    async with server_process(directory, **settings) as one, server_process(directory, **settings) as other:
        yield one, other


def client(server: ServerProcess) -> AsyncClient:
    return AsyncClient(server.target, api_key=KEY, patience_s=0)


async def settled(watcher: AsyncClient, task_id: str, within_s: float) -> list[TaskEvent]:
    async with asyncio.timeout(within_s):
        return [event async for event in watcher.watch(task_id) if not event.HasField("text_delta")]


async def lateness_ms(watcher: AsyncClient, task_id: str) -> list[float]:
    """How long after it happened each event was seen."""
    return [time.time() * 1000 - event.create_time.ToNanoseconds() / 1e6 async for event in watcher.watch(task_id)]


def check(journal: list[TaskEvent]) -> None:
    """Without a gap, and with one end."""
    assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
    ends = [event for event in journal if event.WhichOneof("event") in ("completed", "failed", "canceled")]
    assert ends == journal[-1:]


async def test_watchers_at_one_see_what_the_other_writes_within_100_ms(tmp_path: Path) -> None:
    async with two(tmp_path) as (here, there), client(here) as runs, client(there) as watches:
        at_once_ms: list[float] = []
        late_ms: list[float] = []
        for _ in range(3):
            task = await runs.submit("steps")
            async with asyncio.timeout(2 * SOON_S):
                both = await asyncio.gather(*(lateness_ms(watcher, task.id) for watcher in (runs, watches)))
            at_once_ms += both[0]
            late_ms += both[1]
    assert len(late_ms) == 3 * 21
    told = f"seen {statistics.median(late_ms):.0f} ms later, at most {max(late_ms):.0f}"
    print(told)  # noqa: T201 - the figure is what is wanted
    # What a busy machine adds it adds to the watcher at the one that writes, too.
    assert statistics.median(late_ms) < 100 + statistics.median(at_once_ms)


async def test_a_repetition_at_the_other_attaches_and_a_cancel_there_reaches_the_task(tmp_path: Path) -> None:
    async with two(tmp_path) as (here, there), client(here) as ours, client(there) as theirs:
        first = asyncio.ensure_future(ours.run("steps", request_id="r1"))
        again = asyncio.ensure_future(theirs.run("steps", request_id="r1"))
        tasks = await asyncio.gather(first, again)
        assert tasks[0].id == tasks[1].id
        assert {task.state for task in tasks} == {TASK_STATE_COMPLETED}

        task = await ours.submit("stuck")
        began = time.monotonic()
        canceled = await theirs.cancel(task.id)
        assert (canceled.state, canceled.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_USER)
        assert time.monotonic() - began < SOON_S
        check(await settled(theirs, task.id, 30))


async def test_what_a_killed_process_leaves_the_other_goes_on_with(tmp_path: Path) -> None:
    async with two(tmp_path) as (here, there), client(here) as ours, client(there) as theirs:
        tasks = [await ours.submit("slow") for _ in range(5)]
        assert (await theirs.get_task(tasks[0].id)).state == TASK_STATE_WORKING
        here.process.kill()
        for task in tasks:
            journal = await settled(theirs, task.id, 30)
            check(journal)
            assert journal[-1].HasField("completed")
            (lost,) = [event.attempt_ended for event in journal if event.HasField("attempt_ended")]
            assert lost.cause == ATTEMPT_END_CAUSE_LOST
            assert journal[-1].attempt == 2


async def test_a_frozen_process_finds_its_tasks_taken_over_and_its_appends_refused(tmp_path: Path) -> None:
    async with two(tmp_path, WORKER_SILENCE="5") as (here, there), client(here) as ours, client(there) as theirs:
        task = await ours.submit("slow")
        here.process.send_signal(signal.SIGSTOP)
        try:
            journal = await settled(theirs, task.id, 30)
        finally:
            here.process.send_signal(signal.SIGCONT)
        check(journal)
        assert [event.attempt for event in journal if event.HasField("attempt_started")] == [1, 2]
        async with asyncio.timeout(20):
            assert (await here.logged("attempt_fenced"))["task_id"] == task.id
        assert await settled(ours, task.id, 30) == journal
        # It works on, as one of the two.
        assert (await ours.run("steps")).state == TASK_STATE_COMPLETED

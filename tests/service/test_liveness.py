"""No living process is taken for dead, whatever its store and its own work do; a dead one is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_service.engine.timing import Timing
from agent_service.service.service import ServiceOptions
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.v1.task_event_pb2 import AttemptStarted, TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.engine.dispatch.test_ownership import submitted
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, says, started
from tests.service.worlds import Gate, until
from tests.store.test_sqlite import write_lock

OFTEN = Timing(heartbeat=0.01, adopt=0.01, erase=0.01)
FASTER = 100.0
SILENCE_S = 30.0


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def two(tmp_path: Path, gate: Gate) -> AsyncIterator[tuple[Running, Running]]:
    """Two servers on one file, which live a hundred times as fast and drive a task each."""
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(2):
            store = SqliteStore(
                tmp_path / "journal.db", silence_max_s=SILENCE_S, clock=lambda: time.monotonic() * FASTER
            )
            parts = Parts(timing=OFTEN, model=FakeModel(gate.step), store=await stack.enter_async_context(store))
            servers.append(await stack.enter_async_context(started(parts)))
        one, other = servers
        await until(lambda: one.service.heartbeat.peers.living and other.service.heartbeat.peers.living)
        for server in servers:
            await server.client.submit("go")
        await gate.holds(2)
        yield one, other
        gate.open()


async def attempts(server: Running) -> list[int]:
    return [task.attempt for task in (await server.client.list_tasks()).tasks]


async def test_a_store_that_takes_no_writes_costs_nobody_a_task(
    two: tuple[Running, Running], gate: Gate, tmp_path: Path
) -> None:
    with write_lock(tmp_path / "journal.db"):
        await asyncio.sleep(3 * SILENCE_S / FASTER)
    await asyncio.sleep(SILENCE_S / FASTER)
    gate.open()
    for server in two:
        await server.is_quiet()
    assert await attempts(two[0]) == [1, 1]
    assert gate.asked == 2


async def test_a_process_that_stands_still_is_taken_for_frozen_and_says_so_when_it_wakes(
    two: tuple[Running, Running], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    heartbeat = one.store.heartbeat
    awake = asyncio.Event()

    async def frozen(worker: str) -> object:
        await awake.wait()
        return await heartbeat(worker)

    monkeypatch.setattr(one.store, "heartbeat", frozen)
    await gate.holds(3)
    await until(lambda: not one.runner.running)
    assert any(line["event"] == "attempt_fenced" for line in one.log)
    awake.set()
    gate.open()
    await other.is_quiet()
    assert sorted(await attempts(one)) == [1, 2]


async def test_an_erase_that_takes_long_delays_neither_heartbeats_nor_adoption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, erasing = FakeStore(), asyncio.Event()

    async def erase(_: int, *, limit: int) -> int:
        erasing.set()
        await asyncio.Event().wait()
        return limit

    monkeypatch.setattr(store, "erase_finished", erase)
    options = ServiceOptions(retention_s=1.0)
    async with started(Parts(timing=OFTEN, model=FakeModel(says("done")), store=store, options=options)) as running:
        await erasing.wait()
        worker = running.service.worker
        count = store._workers[worker].heartbeats
        begun = TaskEvent(task_id="orphan", attempt=1, attempt_started=AttemptStarted(worker="gone"))
        await store.append([submitted("orphan"), begun], attempt=0)
        await until(lambda: store._journals["orphan"].is_over and store._workers[worker].heartbeats > count + 5)
        assert (await running.client.get_task("orphan")).state == TASK_STATE_COMPLETED


async def test_a_process_that_ends_beats_until_it_drives_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    async with started(Parts(timing=OFTEN, store=store)) as running:
        worker, release = running.service.worker, running.runner.release

        async def slowly() -> None:
            count = store._workers[worker].heartbeats
            await until(lambda: store._workers[worker].heartbeats > count + 3)
            await release()

        monkeypatch.setattr(running.runner, "release", slowly)
        await running.service.close()
        assert worker not in store._workers
        monkeypatch.setattr(running.runner, "release", release)

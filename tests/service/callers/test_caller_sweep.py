"""A task that ends with its callers ends when it has none at any process, and not before, wherever it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import aio

from agent_service.engine.timing import Timing
from agent_service.errors import OverloadedError
from agent_service.service.callers.caller_sweep import CallersElsewhere
from agent_service.service.service import ServiceOptions
from agent_service.v1.error_reason_pb2 import ERROR_REASON_STORE_UNAVAILABLE
from agent_service.v1.task_event_pb2 import AttemptStarted, TaskEvent, TaskSubmitted
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_DISCONNECT,
    TASK_KIND_AGENT,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_SUBMITTED,
)
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, started
from tests.service.callers.test_callers import gone
from tests.service.worlds import Gate, request, stub, until

SOON = Timing(heartbeat=0.005, adopt=0.005, publish_callers=0.005, follow=0.005, comeback=0.1)


def submitted(task_id: str, *, session: str = "") -> TaskEvent:
    """A task that ends with its callers, from a process that has ended."""
    first = TaskSubmitted(kind=TASK_KIND_AGENT, tenant="acme", agent="assistant", model="fake", task="go")
    first.submitted_by, first.session_id, first.limits.turns, first.session_waiting_max = "acme", session, 5, 9
    event = TaskEvent(task_id=task_id, submitted=first)
    event.create_time.GetCurrentTime()
    event.submitted.deadline.seconds = event.create_time.seconds + 600
    return event


async def test_a_task_ends_when_the_process_of_its_last_caller_does() -> None:
    gate, store = Gate(), FakeStore()
    parts = Parts(timing=SOON, model=FakeModel(gate.step), store=store, options=ServiceOptions(reattach_grace_s=0.05))
    async with started(parts) as here:
        async with started(parts) as there:
            await until(lambda: here.service.heartbeat.peers.living and there.service.heartbeat.peers.living)
            async with stub(there) as (methods, metadata):
                task_id = await gone(here, gate, request_id="r")
                again = methods.RunTask(request(request_id="r"), metadata=metadata)
                await until(lambda: task_id in here.service.heartbeat.peers.attached)
                await asyncio.sleep(0.3)  # three times what a caller that is away may take
                assert task_id in here.runner.running
                await there.service.drain(0)
                with pytest.raises(aio.AioRpcError, match="shutting down"):
                    await again
        await until(lambda: not here.runner.running)
        task = await here.client.get_task(task_id)
    assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_DISCONNECT)


async def test_a_queued_task_without_callers_does_not_wait_for_its_turn() -> None:
    gate, store = Gate(), FakeStore()
    async with started(Parts(timing=SOON, model=FakeModel(gate.step), store=store, running_max=1)) as running:
        kept = (await running.client.submit("in the way")).id
        await gate.holds()
        detached = (await running.client.submit("later")).id
        await store.append([submitted("left")], attempt=0)
        await store.has("canceled")
        left = await running.client.get_task("left")
        assert (left.state, left.cancel_cause, left.attempt) == (TASK_STATE_CANCELED, CANCEL_CAUSE_DISCONNECT, 0)
        assert (await running.client.get_task(detached)).state == TASK_STATE_SUBMITTED
        gate.open()
        await running.is_quiet()
        assert (await running.client.get_task(kept)).state == TASK_STATE_COMPLETED


async def test_a_caller_that_comes_back_while_its_task_is_being_given_up_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, store = Gate(), FakeStore()
    parts = Parts(timing=SOON, model=FakeModel(gate.step), store=store, options=ServiceOptions(reattach_grace_s=0.02))
    async with started(parts) as running:
        asking, answered = asyncio.Event(), asyncio.Event()

        async def slowly(_: CallersElsewhere, task_id: str) -> bool:
            asking.set()
            await answered.wait()
            return False

        monkeypatch.setattr(CallersElsewhere, "has", slowly)
        await gone(running, gate, request_id="r")
        await asking.wait()
        again = asyncio.ensure_future(running.client.run("go", request_id="r"))
        await until(lambda: running.service.callers.attached())
        answered.set()
        await until(lambda: not running.service.abandonment.pending)
        gate.open()
        assert (await again).state == TASK_STATE_COMPLETED


async def test_a_caller_that_is_on_its_way_in_when_the_grace_ends_keeps_its_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, store = Gate(), FakeStore()
    parts = Parts(timing=SOON, model=FakeModel(gate.step), store=store, options=ServiceOptions(reattach_grace_s=0.02))
    async with started(parts) as running:
        with running.service.callers.arriving(await gone(running, gate, request_id="r")):
            await until(lambda: running.service.abandonment.pending)
            await until(lambda: not running.service.abandonment.pending)
        assert len(running.runner.running) == 1
        again = asyncio.ensure_future(running.client.run("go", request_id="r"))
        await until(lambda: running.service.callers.attached())
        gate.open()
        assert (await again).state == TASK_STATE_COMPLETED


async def test_what_stands_behind_a_task_that_waits_is_not_claimed_again_and_again() -> None:
    gate, store = Gate(), FakeStore()
    await store.heartbeat("another")
    first = submitted("first", session="s")
    begun = TaskEvent(task_id="first", attempt=1, attempt_started=AttemptStarted(worker="another"))
    await store.append([first, begun], attempt=0)
    async with started(Parts(timing=SOON, model=FakeModel(gate.step), store=store)) as running:
        second = asyncio.ensure_future(running.client.run("go", session_id="s"))
        await until(lambda: running.service.dispatcher._blocked)
        turn = running.service.sweeps["adopt"].rounds
        await until(lambda: running.service.sweeps["adopt"].rounds > turn + 5)  # its caller reads the journal too, once
        reads = store.reads
        await until(lambda: running.service.sweeps["adopt"].rounds > turn + 30)
        assert store.reads == reads
        end = TaskEvent(task_id="first", attempt=1)
        end.completed.SetInParent()
        await store.append([end], attempt=1)
        gate.open()
        assert (await second).state == TASK_STATE_COMPLETED


async def test_a_store_that_is_away_does_not_empty_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, store = Gate(), FakeStore()
    async with started(Parts(timing=SOON, model=FakeModel(gate.step), store=store, running_max=1)) as running:
        await running.client.submit("in the way")
        await gate.holds()
        for _ in range(5):
            await running.client.submit("later")
        orphans = store.orphans

        async def fails(*args: Any, **kwargs: Any) -> Any:
            if store.read_failures:
                store.read_failures -= 1
                raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "away")
            return await orphans(*args, **kwargs)

        monkeypatch.setattr(store, "orphans", fails)
        store.read_failures = 10**6
        order = list(running.service.line.task_ids)
        gate.open()
        await until(lambda: store.read_failures < 10**6 - 20)
        assert list(running.service.line.task_ids) == [*order[1:], order[0]]
        store.read_failures = 0
        await running.is_quiet()
        tasks = [await running.client.get_task(task_id) for task_id in order]
    assert {task.state for task in tasks} == {TASK_STATE_COMPLETED}
    began = [task.update_time.ToNanoseconds() for task in tasks]
    assert began == sorted(began)

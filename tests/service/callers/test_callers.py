"""What becomes of a task when those who called for it go away, and of its time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from grpc import aio

from agent_service.client import CallError, approve
from agent_service.client.following import is_journaled
from agent_service.engine.timing import Timing
from agent_service.service.service import ServiceOptions
from agent_service.service.tasks import time_left
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.error_reason_pb2 import ERROR_REASON_DEADLINE_EXCEEDED
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_DISCONNECT,
    CANCEL_CAUSE_USER,
    ON_DISCONNECT_DETACH,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_WORKING,
)
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, calls, started
from tests.service.worlds import Gate, request, stub, until

SOON = ServiceOptions(reattach_grace_s=0.05)
LATE = ServiceOptions(reattach_grace_s=3600.0)


async def only_task(running: Running) -> str:
    """The id of the one task that there is, once it is stored."""
    async with asyncio.timeout(20):
        while True:
            for task in (await running.client.list_tasks()).tasks:
                return task.id


async def gone(running: Running, gate: Gate, **fields: Any) -> str:
    """A caller that goes away while the model works; the task's id."""
    async with stub(running) as (methods, metadata):
        call = methods.RunTask(request(**fields), metadata=metadata)
        await gate.holds()
        task_id = await only_task(running)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return task_id


async def test_without_a_request_id_it_is_canceled_at_once() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), options=LATE)) as running:
        task_id = await gone(running, gate)
        await running.is_quiet()
        task = await running.client.get_task(task_id)
        assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_DISCONNECT)
        assert (await running.journal(task_id))[-3:] == ["model_failed", "cancel_requested", "canceled"]


async def test_with_one_it_is_canceled_when_no_repetition_came_in_time() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), options=SOON)) as running:
        task_id = await gone(running, gate, request_id="r1")
        await running.is_quiet()
        assert (await running.client.get_task(task_id)).cancel_cause == CANCEL_CAUSE_DISCONNECT


async def test_a_repetition_within_the_grace_attaches_and_gets_the_answer() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), options=LATE)) as running:
        task_id = await gone(running, gate, request_id="r1")
        again = asyncio.ensure_future(running.client.run("go", request_id="r1"))
        await until(lambda: len(running.service.callers._counts) == 1)
        gate.open()
        task = await again
        assert (task.id, task.state) == (task_id, TASK_STATE_COMPLETED)


async def test_the_task_stays_while_another_of_its_callers_does() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), options=SOON)) as running:
        stays = asyncio.ensure_future(running.client.run("go", request_id="r1"))
        await gate.holds()
        async with aclosing(running.client.watch(await only_task(running))) as watched:
            await anext(watched)
        async with stub(running) as (methods, metadata):
            leaves = methods.StreamTask(pb.StreamTaskRequest(run=request(request_id="r1")), metadata=metadata)
            await leaves.read()
            leaves.cancel()
            await until(lambda: sum(line.get("code") == "CANCELLED" for line in running.log) == 2)
        gate.open()
        assert (await stays).state == TASK_STATE_COMPLETED


async def test_a_detached_task_runs_on() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), options=SOON)) as running:
        task_id = await gone(running, gate, on_disconnect=ON_DISCONNECT_DETACH)
        gate.open()
        await running.is_quiet()
        assert (await running.client.get_task(task_id)).state == TASK_STATE_COMPLETED


async def test_the_callers_deadline_ends_a_detached_tasks_wait_and_nothing_else() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running, stub(running) as (methods, metadata):
        with pytest.raises(aio.AioRpcError) as ended:
            await methods.RunTask(request(on_disconnect=ON_DISCONNECT_DETACH), metadata=metadata, timeout=0.3)
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        task_id = await only_task(running)
        gate.open()
        await running.is_quiet()
        assert (await running.client.get_task(task_id)).state == TASK_STATE_COMPLETED


async def test_the_callers_deadline_is_the_tasks_own_and_it_still_sees_the_outcome() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running, stub(running) as (methods, metadata):
        for _ in range(5):  # the answer has 0.2 s for its way, and a busy machine can need more
            call = methods.RunTask(request(), metadata=metadata, timeout=2)
            if await call.code() is grpc.StatusCode.OK:
                break
        task = (await call).task
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_DEADLINE_EXCEEDED)
    allowed_s = task.deadline.ToNanoseconds() / 1e9 - task.create_time.ToNanoseconds() / 1e9
    assert 1.0 < allowed_s <= 1.81  # the caller's 2 s less a tenth


@pytest.mark.parametrize(("caller_s", "task_s"), [(None, 30), (1, 0.9), (2, 1.8), (5, 4.5), (20, 19.5), (3600, 30)])
def test_a_caller_keeps_a_tenth_of_its_time_and_half_a_second_at_most(caller_s: float | None, task_s: float) -> None:
    assert time_left(30, caller_s) == pytest.approx(task_s)


async def test_a_submitted_task_does_not_know_its_callers_deadline() -> None:
    async with started() as running, stub(running) as (methods, metadata):
        submit = pb.SubmitTaskRequest(run=request())
        task = (await methods.SubmitTask(submit, metadata=metadata, timeout=5)).task
        assert task.deadline.seconds - task.create_time.seconds in (29, 30)  # the agent's timeout


async def test_a_caller_that_goes_before_its_task_is_stored_leaves_it_to_its_repetition() -> None:
    store = FakeStore()
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), store=store, options=LATE)) as running:
        async with stub(running) as (methods, metadata):
            store.hold()
            call = methods.RunTask(request(request_id="r1"), metadata=metadata)
            await store.is_held()
            call.cancel()
            await until(lambda: any(line.get("code") == "CANCELLED" for line in running.log))
            store.release()
        await gate.holds()
        again = asyncio.ensure_future(running.client.run("go", request_id="r1"))
        await until(lambda: len(running.service.callers._counts) == 1)
        gate.open()
        assert (await again).state == TASK_STATE_COMPLETED
    assert gate.asked == 1


async def test_a_caller_that_goes_before_its_task_has_its_place_in_line_takes_it_along() -> None:
    store = FakeStore()
    async with started(Parts(model=FakeModel(Gate().step), store=store, options=LATE)) as running:
        async with stub(running) as (methods, metadata):
            store.hold()
            call = methods.RunTask(request(session_id="s"), metadata=metadata)
            await store.is_held()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            store.release()
        await store.has("canceled")
        (task,) = (await running.client.list_tasks()).tasks
        assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_DISCONNECT)


async def test_a_caller_whose_task_waits_for_its_turn_still_sees_it_fail_with_the_deadline() -> None:
    gate = Gate()
    async with (
        started(Parts(timing=Timing(adopt=3600.0), model=FakeModel(gate.step))) as running,
        stub(running) as (methods, metadata),
    ):
        await running.client.submit("in the way", session_id="s")
        await gate.holds()
        task = (await methods.RunTask(request(session_id="s"), metadata=metadata, timeout=2)).task
        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_DEADLINE_EXCEEDED)
        took_s = task.update_time.ToNanoseconds() / 1e9 - task.deadline.ToNanoseconds() / 1e9
        assert took_s < 0.2
        gate.open()


async def test_a_task_that_has_waited_for_input_ends_by_itself_whoever_goes_away() -> None:
    @tool(side_effect="side_effecting")
    def pay() -> str:
        """Pays."""
        return "paid"

    gate = Gate("done")
    model = FakeModel(calls(("pay", {})), gate.step)
    async with started(Parts(model=model, tools=[pay], needs_approval=["pay"], options=SOON)) as running:
        task = await running.client.run("pay", request_id="r1")
        await running.client.resume(task.id, "input_1", approve())
        await gate.holds()
        async with stub(running) as (methods, metadata):
            attached = methods.RunTask(request("pay", request_id="r1"), metadata=metadata)
            await until(lambda: len(running.service.callers._counts) == 1)
            attached.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attached
        await until(lambda: not running.service.callers._timers and not running.service.abandonment.pending)
        assert (await running.client.get_task(task.id)).state == TASK_STATE_WORKING
        gate.open()
        await running.is_quiet()
        assert (await running.client.get_task(task.id)).output == "done"


async def test_after_a_crash_a_task_whose_callers_do_not_come_back_is_canceled() -> None:
    store, gate = FakeStore(), Gate()
    parts = Parts(timing=Timing(comeback=0.05), model=FakeModel(gate.step), store=store)
    async with started(parts) as running:
        lost = asyncio.ensure_future(running.client.run("go", request_id="r1"))
        kept = asyncio.ensure_future(running.client.run("go", detached=True))
        await gate.holds(2)
        tasks = (await running.client.list_tasks()).tasks
        left = store.after_a_crash()
        for call in (lost, kept):
            call.cancel()
        await asyncio.gather(lost, kept, return_exceptions=True)
    later = Gate()
    async with started(Parts(timing=Timing(comeback=0.05), model=FakeModel(later.step), store=left)) as running:
        await later.holds(2)
        await until(lambda: len(running.runner.running) == 1)
        later.open()
        await running.is_quiet()
        ended = {(await running.client.get_task(task.id)).state for task in tasks}
    assert ended == {TASK_STATE_CANCELED, TASK_STATE_COMPLETED}


async def test_after_a_crash_a_caller_that_comes_back_keeps_its_task() -> None:
    store, gate = FakeStore(), Gate()
    async with started(Parts(timing=Timing(comeback=0.5), model=FakeModel(gate.step), store=store)) as running:
        call = asyncio.ensure_future(running.client.run("go", request_id="r1"))
        await gate.holds()
        left = store.after_a_crash()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    later = Gate()
    async with started(Parts(timing=Timing(comeback=0.5), model=FakeModel(later.step), store=left)) as running:
        again = asyncio.ensure_future(running.client.run("go", request_id="r1"))
        await until(lambda: running.service.callers._counts and not running.service.callers._timers)
        later.open()
        assert (await again).state == TASK_STATE_COMPLETED


async def test_a_repetition_at_another_process_keeps_the_task_and_its_going_ends_it() -> None:
    store, gate = FakeStore(), Gate()
    parts = Parts(
        timing=Timing(adopt=0.01, heartbeat=0.01, publish_callers=0.01),
        model=FakeModel(gate.step),
        store=store,
        options=ServiceOptions(reattach_grace_s=0.5),
    )
    async with started(parts) as here, started(parts) as there, stub(there) as (methods, metadata):
        await until(lambda: here.service.heartbeat.peers.living and there.service.heartbeat.peers.living)
        task_id = await gone(here, gate, request_id="r1")
        again = methods.RunTask(request(request_id="r1"), metadata=metadata)
        await until(lambda: there.service.callers._counts)
        await until(lambda: not here.service.callers._timers and not here.service.abandonment.pending)
        assert (await there.client.get_task(task_id)).state == TASK_STATE_WORKING
        again.cancel()
        await store.has("canceled")
        assert (await there.client.get_task(task_id)).cancel_cause == CANCEL_CAUSE_DISCONNECT


async def test_a_task_that_another_process_than_its_callers_took_up_is_not_taken_for_left() -> None:
    gate = Gate()
    parts = Parts(
        timing=Timing(adopt=0.01, heartbeat=0.01, publish_callers=0.01, comeback=0.5),
        model=FakeModel(gate.step),
        store=FakeStore(),
    )
    async with started(parts) as here, started(parts) as there, stub(there) as (methods, metadata):
        await until(lambda: here.service.heartbeat.peers.living and there.service.heartbeat.peers.living)
        await there.service.dispatcher.stop()
        call = methods.RunTask(request(session_id="s"), metadata=metadata)
        await gate.holds()
        assert len(here.runner.running) == 1
        await until(lambda: not here.service.callers._timers and not here.service.abandonment.pending)
        gate.open()
        assert (await call).task.state == TASK_STATE_COMPLETED


async def test_somebody_who_cancels_is_the_cause_and_stands_in_the_journal() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        task = await running.client.submit("go")
        await gate.holds()
        ended = await running.client.cancel(task.id)
        assert (ended.state, ended.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_USER)
        events = await running.store.read(task.id)
        (asked,) = [event.cancel_requested for event in events if event.HasField("cancel_requested")]
        assert (asked.cause, asked.requested_by) == (CANCEL_CAUSE_USER, "acme")


async def test_time_in_line_counts_and_a_task_whose_turn_does_not_come_fails_with_its_deadline() -> None:
    gate = Gate()
    async with started(Parts(timing=Timing(adopt=0.01), model=FakeModel(gate.step), running_max=1)) as running:
        await running.client.submit("in the way")
        await gate.holds()
        task = await running.client.submit("late", timeout_s=1)
        async with asyncio.timeout(30), aclosing(running.client.watch(task.id)) as events:
            arms = [event.WhichOneof("event") async for event in events if is_journaled(event)]
        assert arms == ["submitted", "failed"]
        failed = await running.client.get_task(task.id)
        assert (failed.failure.reason, failed.attempt) == (ERROR_REASON_DEADLINE_EXCEEDED, 0)
        gate.open()


async def test_the_bounds_of_a_timeout_are_told_by_its_field() -> None:
    async with started() as running:
        for seconds, told in ((0.5, "at least 1 s"), (3601, "at most 3600 s")):
            with pytest.raises(CallError) as refused:
                await running.client.run("go", timeout_s=seconds)
            assert refused.value.violations[0][0] == "timeout"
            assert told in refused.value.violations[0][1]

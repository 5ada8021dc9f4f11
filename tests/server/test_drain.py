"""How a server leaves: what it turns away and when, what it lets end, what it lets go of, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from agent_service.client import CallError, approve
from agent_service.engine.timing import TIMING, Timing
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_DRAIN, TaskEvent
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_DISCONNECT,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_INPUT_REQUIRED,
    TASK_STATE_WORKING,
)
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, Step, calls, says, started
from tests.service.worlds import Gate, request, stub, until

DRAINING = ("UNAVAILABLE", "DRAINING")


@asynccontextmanager
async def draining(running: Running) -> AsyncIterator[asyncio.Task[None]]:
    """From the moment that work is turned away; to its end."""
    drain = asyncio.create_task(running.server.drain())
    await until(lambda: running.service.drain_state.stops_at is not None)
    try:
        yield drain
    finally:
        await drain


async def refusal(call: Awaitable[Any]) -> CallError:
    with pytest.raises(CallError) as refused:
        await call
    return refused.value


async def last(events: AsyncIterator[TaskEvent]) -> TaskEvent:
    return [event async for event in events][-1]


def opened_then(gate: Gate, step: Step) -> Step:
    """A step that waits for its gate first."""

    async def both(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await gate.step(request, observer)
        reply: ModelReply = await step(request, observer)
        return reply

    return both


@tool(side_effect="read_only")
def look() -> str:
    """Looks."""
    return "seen"


def payment(timeout_s: float, paid: list[str]) -> Any:
    @tool(side_effect="side_effecting", timeout_s=timeout_s)
    def pay() -> str:
        """Pays."""
        paid.append("paid")
        return "paid"

    return pay


async def test_it_is_not_ready_at_once_and_takes_work_until_load_balancers_had_their_time() -> None:
    async with started(Parts(drain_delay_s=3600.0)) as running:
        client = running.client
        drain = asyncio.create_task(running.server.drain())
        await until(lambda: any(line["event"] == "draining" for line in running.log))
        assert await client.health("readiness") == "NOT_SERVING"
        assert await client.health("liveness") == "SERVING"
        assert (await client.run("go")).state == TASK_STATE_COMPLETED
        drain.cancel()
        await asyncio.wait((drain,))


async def test_then_it_turns_work_away_and_answers_all_else() -> None:
    gate = Gate()
    model = FakeModel(calls(("pay", {})), gate.step)
    async with started(
        Parts(model=model, tools=[look, payment(5, [])], needs_approval=["pay"], drain_grace_s=30)
    ) as running:
        client = running.client
        waits = await client.run("pay")
        doomed = asyncio.ensure_future(client.run("go"))
        await gate.holds()
        (task, _) = (await client.list_tasks()).tasks
        async with draining(running) as drain:
            for call in (client.run("a"), last(client.stream("a")), client.submit("a"), client.invoke_tool("look")):
                refused = await refusal(call)
                assert (refused.code, refused.reason) == DRAINING
                assert refused.retry_after_s is not None
                assert not refused.task_id
            assert (await client.get_task(task.id)).state == TASK_STATE_WORKING
            assert len((await client.list_tasks()).tasks) == 2
            assert await client.list_agents()
            assert await client.health("liveness") == "SERVING"
            assert await client.health("readiness") == "NOT_SERVING"
            watched = asyncio.ensure_future(last(client.watch(task.id)))
            answered = await client.resume(waits.id, waits.pending_inputs[0].input_id, approve())
            assert answered.state == TASK_STATE_WORKING
            assert (await client.cancel(task.id)).state == TASK_STATE_CANCELED
            assert (await watched).HasField("canceled")
            assert (await doomed).state == TASK_STATE_CANCELED
            await drain
        # Answered while we leave, it is begun by whoever comes next.
        assert (await running.journal(waits.id))[-1] == "input_received"


async def test_what_ends_within_the_grace_is_answered_and_the_rest_of_the_grace_is_not_waited_for() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), drain_grace_s=600)) as running:
        call = asyncio.ensure_future(running.client.run("go"))
        await gate.holds()
        async with draining(running) as drain:
            gate.open()
            assert (await call).output == "hello"
            async with asyncio.timeout(20):
                await drain


async def test_what_does_not_is_released_durably_and_its_calls_say_from_where_it_goes_on() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), drain_grace_s=0)) as running:
        ran = asyncio.ensure_future(running.client.run("go"))
        streamed = asyncio.ensure_future(last(running.client.stream("go")))
        await gate.holds(2)
        tasks = {task.id for task in (await running.client.list_tasks()).tasks}
        watches = [running.client.watch(task_id) for task_id in sorted(tasks)]
        for events in watches:
            await anext(events)  # from then on the server watches
        watched = [asyncio.ensure_future(last(events)) for events in watches]
        async with draining(running):
            ends = [await refusal(call) for call in (ran, streamed, *watched)]
        for end in ends:
            journal = await running.store.read(end.metadata["task_id"])
            assert (end.code, end.reason) == DRAINING
            assert journal[-1].attempt_ended.cause == ATTEMPT_END_CAUSE_DRAIN
            assert int(end.metadata["last_sequence"]) == journal[-1].sequence
        assert {end.metadata["task_id"] for end in ends[:2]} == tasks
        assert running.metrics.attempts_left("DRAIN").value == 2


@pytest.mark.parametrize(("timeout_s", "runs_now"), [(600.0, False), (5.0, True)])
async def test_no_side_effecting_tool_starts_that_could_outlast_the_grace(timeout_s: float, runs_now: bool) -> None:
    store, gate, paid = FakeStore(), Gate(), list[str]()
    model = FakeModel(opened_then(gate, calls(("pay", {}), ("look", {}))), says("done"))
    parts = Parts(model=model, tools=[payment(timeout_s, paid), look], store=store, drain_grace_s=60)
    async with started(parts) as running:
        task = await running.client.submit("go")
        await gate.holds()
        async with draining(running):
            gate.open()
        journal = await running.journal(task.id)
    if runs_now:
        assert paid == ["paid"]
        assert journal[-1] == "completed"
        return
    # What only looks ran, and its result is kept; the payment is made by the next attempt, once and unasked.
    assert not paid
    assert journal[-3:] == ["tool_started", "tool_finished", "attempt_ended"]
    async with started(replace(parts, model=FakeModel(says("done")))) as running:
        await running.is_quiet()
        assert (await running.client.get_task(task.id)).state == TASK_STATE_COMPLETED
        assert (await running.journal(task.id)).count("tool_finished") == 2
    assert paid == ["paid"]


async def test_a_caller_that_goes_away_meanwhile_cancels_nothing() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), drain_grace_s=30)) as running:
        async with stub(running) as (methods, metadata):
            call = methods.RunTask(request(), metadata=metadata)
            await gate.holds()
            (task,) = (await running.client.list_tasks()).tasks
            async with draining(running):
                call.cancel()
                await until(lambda: any(line.get("code") == "CANCELLED" for line in running.log))
                gate.open()
        assert (await running.journal(task.id))[-1] == "completed"


async def test_after_it_a_task_whose_caller_does_not_come_back_is_canceled_and_a_detached_one_goes_on() -> None:
    store, gate = FakeStore(), Gate()
    parts = Parts(timing=Timing(comeback=0.5), model=FakeModel(gate.step), store=store, drain_grace_s=0)
    async with started(parts) as running:
        client = running.client
        mine = [client.run("lost"), client.run("kept", detached=True), client.run("comes back", request_id="r")]
        gone = [asyncio.ensure_future(call) for call in mine]
        await gate.holds(3)
        async with draining(running):
            assert {(await refusal(call)).reason for call in gone} == {"DRAINING"}
    assert TIMING.comeback == 60
    later = Gate()
    async with started(replace(parts, model=FakeModel(later.step))) as running:
        back = asyncio.ensure_future(running.client.run("comes back", request_id="r"))
        await later.holds(3)
        await until(lambda: len(running.runner.running) == 2)
        later.open()
        assert (await back).state == TASK_STATE_COMPLETED
        await running.is_quiet()
        tasks = [await running.client.get_task(task.id) for task in (await running.client.list_tasks()).tasks]
        states = {task.task: (task.state, task.cancel_cause) for task in tasks}
    assert states["lost"] == (TASK_STATE_CANCELED, CANCEL_CAUSE_DISCONNECT)
    assert states["kept"] == states["comes back"] == (TASK_STATE_COMPLETED, 0)


async def test_a_task_that_waits_for_input_is_not_released() -> None:
    model = FakeModel(calls(("pay", {})), says("done"))
    store, paid = FakeStore(), list[str]()
    parts = Parts(model=model, tools=[payment(5, paid)], needs_approval=["pay"], store=store, drain_grace_s=0)
    async with started(parts) as running:
        task = await running.client.run("go")
        before = await running.journal(task.id)
        async with draining(running):
            pass
        assert await running.journal(task.id) == before
    async with started(replace(parts, model=FakeModel(says("done")))) as running:
        assert (await running.client.get_task(task.id)).state == TASK_STATE_INPUT_REQUIRED
        await running.client.resume(task.id, task.pending_inputs[0].input_id, approve())
        await running.is_quiet()
        assert (await running.client.get_task(task.id)).state == TASK_STATE_COMPLETED
    assert paid == ["paid"]

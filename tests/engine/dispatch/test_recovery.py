"""What a restart makes of what a crash, or a drain, has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from agent_service.client import CallError
from agent_service.engine.sweeps import housekeeping
from agent_service.engine.timing import Timing
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.tools.base import Tool
from agent_service.tools.decorator import SideEffect, tool
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.error_reason_pb2 import ErrorReason
from agent_service.v1.task_event_pb2 import (
    ATTEMPT_END_CAUSE_DRAIN,
    ATTEMPT_END_CAUSE_LOST,
    AttemptStarted,
    TaskEvent,
    TaskLimits,
    TaskSubmitted,
)
from agent_service.v1.task_pb2 import (
    TASK_KIND_AGENT,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    Task,
    TaskState,
)
from tests.fakes.crashes import Call, World, left_by_a_crash, restarted
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, calls, says, started


@pytest.fixture
def world() -> World:
    return World()


def run(running: Running) -> Awaitable[object]:
    return running.client.run("go")


def invoke(name: str) -> Call:
    return lambda running: running.client.invoke_tool(name)


async def hang(_: ModelRequest, __: ModelObserver) -> ModelReply:
    await asyncio.Event().wait()
    raise AssertionError


async def ended(
    running: Running,
    task_id: str,
    reason: ErrorReason.ValueType,
    state: TaskState.ValueType = TASK_STATE_FAILED,
) -> Task:
    task = await running.client.get_task(task_id)
    assert (task.state, task.failure.reason) == (state, reason)
    return task


@pytest.mark.parametrize("side_effect", ["read_only", "idempotent"])
async def test_a_call_that_changes_nothing_twice_is_run_again_under_the_same_key(
    world: World, side_effect: SideEffect
) -> None:
    model = FakeModel(calls(("act", {}), ("act", {})), says("done"))
    limits = TaskLimits(turns=5, tool_calls=2, parallel_tools=2)
    parts = Parts(model=model, tools=[world.tool("act", side_effect)], limits=limits)
    task_id, left = await left_by_a_crash(parts, run, "tool_started", "tool_started", until=world.begun(2))
    world.steady.set()

    async with restarted(parts, left) as running:
        task = await running.client.get_task(task_id)

    assert (task.state, task.output, task.attempt) == (TASK_STATE_COMPLETED, "done", 2)
    assert sorted(world.keys) == sorted(2 * [f"{task_id}/c0", f"{task_id}/c1"])
    assert task.usage.tool_calls == 2
    assert [message.text for message in model.requests[-1].messages[-2:]] == ["did it", "did it"]


async def test_a_call_with_side_effects_is_not_run_again_and_the_model_reads_that_its_outcome_is_unknown(
    world: World,
) -> None:
    model = FakeModel(calls(("pay", {})), says("I do not know whether it was paid"))
    parts = Parts(model=model, tools=[world.tool("pay", "side_effecting")], asks_outcome=False)
    task_id, left = await left_by_a_crash(parts, run, "tool_started", until=world.begun())
    world.steady.set()

    async with restarted(parts, left) as running:
        task = await running.client.get_task(task_id)
        arms = await running.journal(task_id)

    assert task.state == TASK_STATE_COMPLETED
    assert len(world.keys) == 1
    assert "TOOL_OUTCOME_UNKNOWN" in model.requests[-1].messages[-1].text
    assert arms[4:8] == ["tool_started", "attempt_ended", "attempt_started", "tool_finished"]


async def test_of_calls_side_by_side_only_those_that_may_run_again_do(world: World) -> None:
    model = FakeModel(calls(("pay", {}), ("look", {})), says("done"))
    tools = [world.tool("pay", "side_effecting"), world.tool("look", "read_only")]
    parts = Parts(model=model, tools=tools, asks_outcome=False)
    task_id, left = await left_by_a_crash(parts, run, "tool_started", "tool_started", until=world.begun(2))
    world.steady.set()

    async with restarted(parts, left) as running:
        assert (await running.client.get_task(task_id)).state == TASK_STATE_COMPLETED

    assert sorted(world.keys) == [f"{task_id}/c0", f"{task_id}/c1", f"{task_id}/c1"]
    texts = [message.text for message in model.requests[-1].messages[-2:]]
    assert "TOOL_OUTCOME_UNKNOWN" in texts[0]
    assert texts[1] == "did it"


async def test_a_tool_called_by_itself_follows_the_same_rule(world: World) -> None:
    parts = Parts(tools=[world.tool("look", "read_only"), world.tool("pay", "side_effecting")])
    looked, left_looking = await left_by_a_crash(parts, invoke("look"), "tool_started", until=world.begun())
    paid, left_paying = await left_by_a_crash(parts, invoke("pay"), "tool_started", until=world.begun())
    world.steady.set()

    async with restarted(parts, left_looking) as running:
        assert (await running.client.get_task(looked)).output == '"did it"'
    async with restarted(parts, left_paying) as running:
        await ended(running, paid, reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN)
    assert world.keys.count(f"{looked}/call_1") == 2
    assert world.keys.count(f"{paid}/call_1") == 1


async def test_what_was_stored_is_neither_asked_nor_run_a_second_time(world: World) -> None:
    world.steady.set()
    model = FakeModel(calls(("pay", {})), hang)
    parts = Parts(model=model, tools=[world.tool("pay", "side_effecting")])
    task_id, left = await left_by_a_crash(parts, run, "tool_finished")
    again = FakeModel(says("paid"))

    async with restarted(replace(parts, model=again), left) as running:
        task = await running.client.get_task(task_id)

    assert (task.state, task.output) == (TASK_STATE_COMPLETED, "paid")
    assert len(world.keys) == 1
    assert len(again.requests) == 1
    assert again.requests[0].messages[-1].text == "did it"


async def test_a_request_that_a_crash_cut_off_is_made_again_and_counted_twice() -> None:
    task_id, left = await left_by_a_crash(Parts(model=FakeModel(hang)), run, "model_started")

    async with restarted(Parts(timing=Timing(store_retry=0.0)), left) as running:
        task = await running.client.get_task(task_id)

    assert (task.state, task.output) == (TASK_STATE_COMPLETED, "hello")
    assert task.usage.model_calls == 2


async def test_a_crash_is_told_in_the_journal_as_a_lost_attempt_before_the_next() -> None:
    task_id, left = await left_by_a_crash(Parts(model=FakeModel(hang)), run, "model_started")

    async with restarted(Parts(timing=Timing(store_retry=0.0)), left) as running:
        events = await running.store.read(task_id)
        assert running.metrics.attempts_left("LOST").value == 1

    (lost,) = [event for event in events if event.HasField("attempt_ended")]
    assert (lost.attempt, lost.attempt_ended.cause) == (1, ATTEMPT_END_CAUSE_LOST)
    assert [event.attempt for event in events if event.HasField("attempt_started")] == [1, 2]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_a_drain_leaves_a_call_open_that_may_run_again(world: World) -> None:
    store = FakeStore()
    model = FakeModel(calls(("look", {})), says("done"))
    parts = Parts(model=model, tools=[world.tool("look", "read_only")], store=store)
    async with started(parts) as running:
        calling = asyncio.create_task(running.client.run("go"))
        task_id = await store.has("tool_started")
        await world.begun()
        await running.service.drain(0)
        with pytest.raises(CallError, match="DRAINING"):
            await calling
        (drained,) = [event for event in await store.read(task_id) if event.HasField("attempt_ended")]
    world.steady.set()

    async with restarted(parts, store) as running:
        task = await running.client.get_task(task_id)

    assert drained.attempt_ended.cause == ATTEMPT_END_CAUSE_DRAIN
    assert task.state == TASK_STATE_COMPLETED
    assert model.requests[-1].messages[-1].text == "did it"
    assert len(world.keys) == 2


async def test_a_drain_leaves_a_call_with_side_effects_of_unknown_outcome(world: World) -> None:
    store = FakeStore()
    model = FakeModel(calls(("pay", {})), says("done"))
    parts = Parts(model=model, tools=[world.tool("pay", "side_effecting")], store=store, asks_outcome=False)
    async with started(parts) as running:
        calling = asyncio.create_task(running.client.run("go"))
        task_id = await store.has("tool_started")
        await world.begun()
        await running.service.drain(0)
        with pytest.raises(CallError, match="DRAINING"):
            await calling
    world.steady.set()

    async with restarted(parts, store) as running:
        assert (await running.client.get_task(task_id)).state == TASK_STATE_COMPLETED

    assert "TOOL_OUTCOME_UNKNOWN" in model.requests[-1].messages[-1].text
    assert len(world.keys) == 1


async def test_a_store_that_fails_at_the_restart_is_asked_again() -> None:
    task_id, left = await left_by_a_crash(Parts(model=FakeModel(hang)), run, "model_started")
    left.failures = 3

    async with restarted(Parts(timing=Timing(store_retry=0.0)), left) as running:
        assert (await running.client.get_task(task_id)).state == TASK_STATE_COMPLETED
    assert len(left.refused) == 3


def changed(name: str) -> Tool:
    @tool(name=name, side_effect="read_only")
    async def act(more: int) -> str:
        """Does something, and wants to know more now."""
        return str(more)

    return act


@pytest.mark.parametrize("has", ["another schema", "no such tool"])
async def test_a_task_whose_tool_changed_or_went_ends_with_that_reason(world: World, has: str) -> None:
    parts = Parts(model=FakeModel(hang), tools=[world.tool("act", "read_only")])
    task_id, left = await left_by_a_crash(parts, run, "model_started")
    model = FakeModel(says("hello"))
    tools = [changed("act")] if has == "another schema" else []

    async with restarted(replace(parts, tools=tools, model=model), left) as running:
        await ended(running, task_id, reasons.ERROR_REASON_CONFIG_CHANGED)
    assert model.requests == []


async def test_a_tool_call_whose_tool_changed_ends_with_that_reason_and_does_not_run(world: World) -> None:
    parts = Parts(tools=[world.tool("act", "read_only")])
    task_id, left = await left_by_a_crash(parts, invoke("act"), "tool_started", until=world.begun())

    async with restarted(replace(parts, tools=[changed("act")]), left) as running:
        await ended(running, task_id, reasons.ERROR_REASON_CONFIG_CHANGED)
    assert len(world.keys) == 1


async def accepted(
    store: FakeStore, task_id: str, *, agent: str = "assistant", model: str = "fake", left_s: int = 60
) -> None:
    """A task that was accepted by a process which died before it could say more."""
    submitted = TaskSubmitted(kind=TASK_KIND_AGENT, tenant="acme", agent=agent, model=model, task="go")
    submitted.submitted_by = "acme"
    event = TaskEvent(task_id=task_id, submitted=submitted)
    event.create_time.GetCurrentTime()
    event.submitted.limits.turns = 5
    event.submitted.deadline.seconds = event.create_time.seconds + left_s
    await store.append([event], attempt=0)


@pytest.mark.parametrize(("agent", "model"), [("planner", "fake"), ("assistant", "smart")])
async def test_a_task_whose_agent_or_model_is_gone_ends_with_that_reason(agent: str, model: str) -> None:
    store = FakeStore()
    await accepted(store, "a1", agent=agent, model=model)

    async with restarted(Parts(), store) as running:
        await ended(running, "a1", reasons.ERROR_REASON_CONFIG_CHANGED, TASK_STATE_REJECTED)


async def test_a_task_that_nobody_had_begun_is_begun() -> None:
    store = FakeStore()
    await accepted(store, "a1")

    async with restarted(Parts(), store) as running:
        task = await running.client.get_task("a1")
        assert (task.state, task.attempt) == (TASK_STATE_COMPLETED, 1)
        assert "attempt_ended" not in await running.journal("a1")


async def test_a_task_whose_deadline_passed_meanwhile_ends_with_that_reason() -> None:
    store = FakeStore()
    await accepted(store, "a1", left_s=-1)
    await store.append([TaskEvent(task_id="a1", attempt=1, attempt_started=AttemptStarted())], attempt=0)
    model = FakeModel(hang)

    async with restarted(Parts(model=model), store) as running:
        await ended(running, "a1", reasons.ERROR_REASON_DEADLINE_EXCEEDED)


async def test_all_are_adopted_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    for index in range(7):
        await accepted(store, f"a{index}")
    monkeypatch.setattr(housekeeping, "ADOPTED_AT_ONCE", 2)
    async with restarted(Parts(timing=Timing(adopt=0.01)), store) as running:
        states = [(await running.client.get_task(f"a{index}")).state for index in range(7)]
    assert states == [TASK_STATE_COMPLETED] * 7

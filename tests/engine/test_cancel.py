"""CancelTask stops a task wherever it is: at its model, in its tools, in the queue, waiting for an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent_service.client import AsyncClient, CallError, approve
from agent_service.engine.limit_replay import replay_charges
from agent_service.engine.task.state import FoldedTask
from agent_service.keys.base import Principal, Scope
from agent_service.limits.base import Charge, Rule
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.store.base import Appended
from agent_service.store.memory import MemoryStore
from agent_service.tools.decorator import SideEffect, tool
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import TaskEvent, ToolFinished
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_OPERATOR,
    CANCEL_CAUSE_USER,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_INPUT_REQUIRED,
    TASK_STATE_SUBMITTED,
    Task,
)
from tests.fakes.crashes import World
from tests.fakes.store import FakeStore
from tests.harness import SOON_S, FakeModel, Parts, Running, TestKeys, calls, says, started
from tests.tools.calls import Gate

ADMIN = "test-key-of-the-operator"
KEYS = TestKeys({ADMIN: Principal("ops", "operator", frozenset(Scope))})


class Patience:
    """A model that never answers, and knows that it was cut off."""

    def __init__(self) -> None:
        self.asked, self.cut_off = asyncio.Event(), asyncio.Event()

    async def __call__(self, _: ModelRequest, __: ModelObserver) -> ModelReply:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cut_off.set()
        raise AssertionError


@tool(side_effect="side_effecting")
async def pay() -> str:
    """Pays."""
    return "paid"


def waiting_parts() -> Parts:
    return Parts(model=FakeModel(calls(("pay", {})), says("done")), tools=[pay], needs_approval=["pay"])


async def events_of(running: Running, task_id: str, arm: str) -> list[TaskEvent]:
    return [event for event in await running.store.read(task_id) if event.WhichOneof("event") == arm]


def canceled(task: Task, cause: int = CANCEL_CAUSE_USER) -> bool:
    return task.state == TASK_STATE_CANCELED and task.cancel_cause == cause


async def test_a_task_that_asks_its_model_is_stopped_within_a_second_and_its_caller_is_told() -> None:
    model = Patience()
    async with started(Parts(model=FakeModel(model))) as running:
        calling = asyncio.create_task(running.client.run("go"))
        await model.asked.wait()
        (task_id,) = running.runner.running
        began = time.monotonic()
        task = await running.client.cancel(task_id)
        assert time.monotonic() - began < SOON_S
        assert model.cut_off.is_set()
        assert canceled(task)
        assert (await calling) == task
        arms = await running.journal(task_id)
        assert arms[-3:] == ["model_failed", "cancel_requested", "canceled"]


async def test_who_canceled_it_is_in_the_journal() -> None:
    model = Patience()
    async with started(Parts(model=FakeModel(model))) as running:
        task_id = (await running.client.submit("go")).id
        await model.asked.wait()
        await running.client.cancel(task_id)
        (event,) = await events_of(running, task_id, "cancel_requested")
        assert (event.cancel_requested.cause, event.cancel_requested.requested_by) == (CANCEL_CAUSE_USER, "acme")


async def test_an_operator_cancels_other_tenants_tasks_and_the_cause_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Patience()
    async with (
        started(Parts(model=FakeModel(model), keys=KEYS)) as running,
        AsyncClient(running.target, api_key=ADMIN) as operator,
    ):
        task_id = (await running.client.submit("go")).id
        await model.asked.wait()
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await running.other_tenant.cancel(task_id)
        assert canceled(await operator.cancel(task_id), CANCEL_CAUSE_OPERATOR)
        (event,) = await events_of(running, task_id, "cancel_requested")
        assert event.cancel_requested.requested_by == "operator"
        assert canceled(await running.client.cancel(task_id), CANCEL_CAUSE_OPERATOR)


@pytest.mark.parametrize("how", ["running", "waiting", "queued"])
async def test_canceling_is_idempotent_also_at_once(how: str) -> None:
    model = Patience()
    asked = waiting_parts() if how == "waiting" else Parts(model=FakeModel(model), running_max=1)
    async with started(asked) as running:
        if how == "queued":
            await running.client.submit("something else")
            await model.asked.wait()
        task_id = (await running.client.submit("go")).id
        if how == "running":
            await model.asked.wait()
        elif how == "waiting":
            async for _ in running.client.watch(task_id):
                pass
        told = await asyncio.gather(*(running.client.cancel(task_id) for _ in range(8)))
        assert all(map(canceled, told))
        arms = await running.journal(task_id)
        assert (arms.count("cancel_requested"), arms.count("canceled")) == (1, 1)
        assert await running.client.cancel(task_id) == told[0]


async def test_a_task_that_has_ended_stays_as_it_is() -> None:
    async with started() as running:
        task = await running.client.run("hi")
        assert await running.client.cancel(task.id) == task
        assert task.state == TASK_STATE_COMPLETED


async def test_a_task_in_the_queue_is_canceled_without_ever_being_begun() -> None:
    model = Patience()
    async with started(Parts(model=FakeModel(model), running_max=1)) as running:
        first = (await running.client.submit("first")).id
        await model.asked.wait()
        second = await running.client.submit("second")
        assert second.state == TASK_STATE_SUBMITTED
        assert canceled(await running.client.cancel(second.id))
        await running.client.cancel(first)
        await running.is_quiet()
        assert await running.journal(second.id) == ["submitted", "cancel_requested", "canceled"]


async def test_a_task_that_waits_for_an_answer_is_canceled_and_waits_for_nothing_any_more() -> None:
    async with started(waiting_parts()) as running:
        task = await running.client.run("go")
        task = await running.client.cancel(task.id)
        assert canceled(task)
        assert list(task.pending_inputs) == []
        assert (await running.journal(task.id))[-3:] == ["input_required", "cancel_requested", "canceled"]


async def test_an_async_tool_is_stopped_within_a_second_and_its_outcome_is_reported_as_unknown() -> None:
    world = World()
    asked = Parts(model=FakeModel(calls(("pay", {}))), tools=[world.tool("pay", "side_effecting")])
    async with started(asked) as running:
        task_id = (await running.client.submit("go")).id
        await world.begun()
        began = time.monotonic()
        assert canceled(await running.client.cancel(task_id))
        assert time.monotonic() - began < SOON_S
        assert await outcome(running, task_id) == reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("side_effect", "reason"),
    [
        ("side_effecting", reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN),
        ("idempotent", reasons.ERROR_REASON_TOOL_FAILED),
        ("read_only", reasons.ERROR_REASON_TOOL_FAILED),
    ],
)
async def test_a_sync_tool_is_abandoned_within_a_second_and_what_may_have_happened_is_reported(
    side_effect: SideEffect, reason: int
) -> None:
    gate = Gate()

    @tool(name="act", side_effect=side_effect)
    def act() -> str:
        """Cannot be interrupted."""
        gate.wait()
        return "did it"

    try:
        async with started(Parts(model=FakeModel(calls(("act", {}))), tools=[act])) as running:
            task_id = (await running.client.submit("go")).id
            await gate.entered_once()
            began = time.monotonic()
            assert canceled(await running.client.cancel(task_id))
            assert time.monotonic() - began < SOON_S
            assert await outcome(running, task_id) == reason
    finally:
        gate.opened.set()


async def outcome(running: Running, task_id: str) -> int:
    """The error that the journal has for the only call."""
    (event,) = await events_of(running, task_id, "tool_finished")
    finished: ToolFinished = event.tool_finished
    assert finished.duration.ToNanoseconds() > 0
    return finished.error.reason


async def test_all_tools_of_a_turn_are_stopped() -> None:
    world = World()
    tools = [world.tool("pay", "side_effecting"), world.tool("look", "read_only")]
    asked = Parts(model=FakeModel(calls(("pay", {}), ("look", {}), ("look", {}))), tools=tools)
    async with started(asked) as running:
        task_id = (await running.client.submit("go")).id
        await world.begun(3)
        assert canceled(await running.client.cancel(task_id))
        assert len(await events_of(running, task_id, "tool_finished")) == 3


class Holding(FakeStore):
    """Lets nothing through from the moment at which a task wants to wait."""

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        if events[0].HasField("input_required"):
            self.hold()
        return await super().append(events, attempt=attempt, after=after)


async def test_a_cancel_that_comes_while_the_task_begins_to_wait_is_not_lost() -> None:
    store = Holding()
    async with started(replace(waiting_parts(), store=store)) as running:
        calling = asyncio.create_task(running.client.run("go"))
        await store.is_held()
        (task_id,) = running.runner.running
        running.runner.running[task_id].stop.cancel(CANCEL_CAUSE_USER)
        store.release()
        assert canceled(await calling)
        assert (await running.journal(task_id))[-3:] == ["input_required", "cancel_requested", "canceled"]


async def test_a_cancel_that_comes_after_the_deadline_changes_nothing() -> None:
    model = Patience()
    async with started(Parts(model=FakeModel(model))) as running:
        calling = asyncio.create_task(running.client.run("go"))
        await model.asked.wait()
        (one,) = running.runner.running.values()
        one.stop.time_out()
        one.stop.cancel(CANCEL_CAUSE_USER)
        task = await calling
        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_DEADLINE_EXCEEDED)
        assert model.cut_off.is_set()


async def test_a_cancel_that_comes_at_the_moment_at_which_the_task_waits_is_not_lost() -> None:
    store = Holding()
    async with started(replace(waiting_parts(), store=store)) as running:
        task_id = (await running.client.submit("go")).id
        await store.is_held()
        one = running.runner.running[task_id]
        store.release()
        await one.ended()
        assert task_id in running.runner.running
        principal = Principal("acme", "acme", frozenset({Scope.TASKS_CANCEL}))
        assert canceled(await running.service.commands.cancel(principal, task_id))


async def test_a_drain_that_comes_while_the_task_begins_to_wait_leaves_it_waiting_until_its_time_is_up() -> None:
    store = Holding()
    async with started(replace(waiting_parts(), store=store)) as running:
        task_id = (await running.client.submit("go")).id
        await store.is_held()
        running.runner.running[task_id].stop.release()
        store.release()
        await running.is_quiet()
        assert (await running.journal(task_id))[-1] == "input_required"
        assert await store.overdue(time.time_ns() // 1000 + 3600 * 10**6 + 10**6) == [task_id]


async def test_a_cancel_by_another_process_reaches_a_task_that_is_about_to_wait() -> None:
    store = FakeStore()
    gate = asyncio.Event()

    async def asks(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await gate.wait()
        reply: ModelReply = await calls(("pay", {}))(request, observer)
        return reply

    async with started(replace(waiting_parts(), model=FakeModel(asks), store=store)) as running:
        task_id = (await running.client.submit("go")).id
        await store.has("model_started")
        await running.service.idle.cancel(task_id, CANCEL_CAUSE_USER, "somebody elsewhere")
        gate.set()
        async for _ in running.client.watch(task_id):
            pass
        assert canceled(await running.client.get_task(task_id))


async def test_a_cancel_by_another_process_that_comes_first_keeps_a_task_from_waiting() -> None:
    store = Holding()
    async with started(replace(waiting_parts(), store=store)) as running:
        calling = asyncio.create_task(running.client.run("go"))
        await store.is_held()
        (task_id,) = running.runner.running
        asked = TaskEvent(task_id=task_id, attempt=1)
        asked.cancel_requested.cause = CANCEL_CAUSE_USER
        await MemoryStore.append(store, [asked], attempt=None)
        store.release()
        assert canceled(await calling)
        assert (await running.journal(task_id))[-2:] == ["cancel_requested", "canceled"]
        assert "input_required" not in await running.journal(task_id)


async def test_what_was_to_be_canceled_and_waits_nevertheless_can_be_canceled_again() -> None:
    store = FakeStore()
    async with started(replace(waiting_parts(), store=store)) as running:
        task = await running.client.run("go")
        asked = TaskEvent(task_id=task.id, attempt=1)
        asked.cancel_requested.cause = CANCEL_CAUSE_OPERATOR
        await store.append([asked], attempt=None)
        assert (await running.client.get_task(task.id)).state == TASK_STATE_INPUT_REQUIRED
        assert canceled(await running.client.cancel(task.id), CANCEL_CAUSE_OPERATOR)


async def test_an_answered_task_that_has_not_gone_on_yet_is_canceled() -> None:
    model = Patience()
    asked = replace(waiting_parts(), model=FakeModel(calls(("pay", {})), model), running_max=1)
    async with started(asked) as running:
        task = await running.client.run("go")
        other = (await running.client.submit("something else")).id
        await model.asked.wait()
        await running.client.resume(task.id, "input_1", approve())
        assert canceled(await running.client.cancel(task.id))
        await running.client.cancel(other)
        await running.is_quiet()
        assert (await running.journal(task.id))[-3:] == ["input_received", "cancel_requested", "canceled"]


async def test_to_cancel_takes_a_scope() -> None:
    keys = TestKeys({"r": Principal("acme", "r", frozenset({Scope.TASKS_RUN, Scope.TASKS_READ}))})
    async with started(replace(waiting_parts(), keys=keys)) as running, AsyncClient(running.target, api_key="r") as key:
        task = await key.run("go")
        with pytest.raises(CallError) as refused:
            await key.cancel(task.id)
        assert (refused.value.reason, refused.value.metadata) == ("SCOPE_MISSING", {"scope": "tasks.cancel"})


async def test_a_request_that_a_cancel_kept_from_being_sent_is_neither_counted_nor_charged() -> None:
    store, model = FakeStore(), FakeModel(says("too late"))
    rules = [Rule("default", tokens_max=10_000)]
    async with started(Parts(model=model, store=store, rules=rules)) as running:
        append = store.append

        async def hold_the_request(events: Sequence[TaskEvent], **options: Any) -> Appended:
            if any(event.HasField("model_started") for event in events):
                store.hold()
            return await append(events, **options)

        store.append = hold_the_request  # type: ignore[method-assign]
        calling = asyncio.create_task(running.client.run("go"))
        await store.is_held()
        (running_task,) = running.runner.running.values()
        running_task.stop.cancel(CANCEL_CAUSE_USER)
        await asyncio.sleep(0)
        store.release()
        task = await calling
        assert canceled(task)
        assert (len(model.requests), task.usage.model_calls) == (0, 0)
        assert [row.model_calls for row in await running.client.get_usage()] == [0]
        assert FoldedTask.fold(await store.read(task.id)).task.usage.model_calls == 0
    charged: list[Charge] = []
    await replay_charges(store, lambda charge, _: charged.append(charge), window_s=60.0)
    assert [charge for charge in charged if charge.model_calls or charge.tokens] == []

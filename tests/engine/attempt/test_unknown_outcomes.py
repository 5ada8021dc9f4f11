"""A side-effecting call that a crash cut off is not run again unasked: somebody is asked, and the answer decides."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent_service.client import approve, deny, failure, reply, result, run_again
from agent_service.client.errors import CallError
from agent_service.llm.base import Role
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import (
    INPUT_KIND_APPROVAL,
    INPUT_KIND_OUTCOME_UNKNOWN,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_INPUT_REQUIRED,
    InputAnswer,
    Task,
)
from tests.fakes.crashes import World, left_by_a_crash, restarted
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, calls, says, started


@pytest.fixture
def world() -> World:
    return World()


def parts(world: World, *, asks_outcome: bool = True, needs_approval: bool = False) -> Parts:
    return Parts(
        model=FakeModel(calls(("pay", {})), says("done")),
        tools=[world.tool("pay", "side_effecting")],
        asks_outcome=asks_outcome,
        needs_approval=["pay"] if needs_approval else [],
    )


def run(running: Running) -> asyncio.Future[object]:
    return asyncio.ensure_future(running.client.run("pay"))


async def interrupted(world: World, asked: Parts) -> tuple[str, FakeStore]:
    """A task whose call was under way when its process was killed."""
    return await left_by_a_crash(asked, run, "tool_started", until=world.begun())


async def finished(running: Running, task_id: str) -> Task:
    async with asyncio.timeout(30):
        async for _ in running.client.watch(task_id):
            pass
    return await running.client.get_task(task_id)


def read_by_the_model(asked: Parts) -> str:
    """The result of the call, as the model read it."""
    assert isinstance(asked.model, FakeModel)
    (told,) = [message.text for message in asked.model.requests[-1].messages if message.role is Role.TOOL]
    return told


async def test_the_outcome_is_asked_for_and_nothing_runs_meanwhile(world: World) -> None:
    task_id, left = await interrupted(world, parts(world))
    world.steady.set()
    async with restarted(parts(world), left) as running:
        task = await running.client.get_task(task_id)
        assert (task.state, task.attempt) == (TASK_STATE_INPUT_REQUIRED, 2)
        (asked,) = task.pending_inputs
        assert (asked.input_id, asked.kind, asked.tool_call.name) == ("input_1", INPUT_KIND_OUTCOME_UNKNOWN, "pay")
        assert await running.journal(task_id) == [
            "submitted",
            "attempt_started",
            "model_started",
            "model_replied",
            "tool_started",
            "attempt_ended",
            "attempt_started",
            "input_required",
        ]
    assert len(world.keys) == 1


@pytest.mark.parametrize(
    ("answer", "told", "runs"),
    [
        (run_again(), "did it", 2),
        (result("the bank says that it was paid"), "the bank says that it was paid", 1),
        (result({"paid": 5}), '{"paid": 5}', 1),
        (failure("it was not"), '{"error":{"reason":"TOOL_FAILED","message":"it was not"}}', 1),
    ],
)
async def test_the_answer_decides_what_the_model_reads(world: World, answer: InputAnswer, told: str, runs: int) -> None:
    task_id, left = await interrupted(world, parts(world))
    world.steady.set()
    again = parts(world)
    again.model = FakeModel(says("done"))
    async with restarted(again, left) as running:
        await running.client.resume(task_id, "input_1", answer)
        task = await finished(running, task_id)
    assert (task.state, task.output, task.usage.tool_calls) == (TASK_STATE_COMPLETED, "done", 1)
    assert read_by_the_model(again) == told
    assert world.keys == runs * [f"{task_id}/c0"]


@pytest.mark.parametrize("answer", [approve(), deny(), reply("yes")])
async def test_other_answers_are_refused_by_their_field(world: World, answer: InputAnswer) -> None:
    task_id, left = await interrupted(world, parts(world))
    async with restarted(parts(world), left) as running:
        with pytest.raises(CallError) as refused:
            await running.client.resume(task_id, "input_1", answer)
    assert refused.value.violations == (
        ("answer", "OUTCOME_UNKNOWN accepts one of error_message, output_json, run_again"),
    )


async def test_a_second_crash_while_it_runs_again_asks_again(world: World) -> None:
    task_id, left = await interrupted(world, parts(world))

    def answered(running: Running) -> asyncio.Future[object]:
        async def answer() -> None:
            await running.is_quiet()
            await running.client.resume(task_id, "input_1", run_again())

        return asyncio.ensure_future(answer())

    _, left = await left_by_a_crash(parts(world), answered, "tool_started", until=world.begun(), store=left)
    world.steady.set()
    async with restarted(replace(parts(world), model=FakeModel(says("done"))), left) as running:
        task = await running.client.get_task(task_id)
        assert [(one.input_id, one.kind) for one in task.pending_inputs] == [("input_2", INPUT_KIND_OUTCOME_UNKNOWN)]
        assert len(world.keys) == 2
        await running.client.resume(task_id, "input_2", run_again())
        task = await finished(running, task_id)
    assert (task.state, task.usage.tool_calls) == (TASK_STATE_COMPLETED, 1)
    assert world.keys == 3 * [f"{task_id}/c0"]


async def test_an_approved_call_that_a_crash_cut_off_asks_for_its_outcome_and_not_for_approval(world: World) -> None:
    asked = parts(world, needs_approval=True)

    def approved(running: Running) -> asyncio.Future[object]:
        async def answer() -> None:
            task = await running.client.run("pay")
            assert task.pending_inputs[0].kind == INPUT_KIND_APPROVAL
            await running.client.resume(task.id, "input_1", approve())

        return asyncio.ensure_future(answer())

    task_id, left = await left_by_a_crash(asked, approved, "tool_started", until=world.begun())
    world.steady.set()
    async with restarted(replace(asked, model=FakeModel(says("done"))), left) as running:
        task = await running.client.get_task(task_id)
        assert [(one.input_id, one.kind) for one in task.pending_inputs] == [("input_2", INPUT_KIND_OUTCOME_UNKNOWN)]
        await running.client.resume(task_id, "input_2", run_again())
        assert (await finished(running, task_id)).state == TASK_STATE_COMPLETED
    assert len(world.keys) == 2


async def test_an_agent_that_tells_its_model_asks_nobody_also_of_an_approved_call(world: World) -> None:
    asked = parts(world, asks_outcome=False, needs_approval=True)

    def approved(running: Running) -> asyncio.Future[object]:
        async def answer() -> None:
            task = await running.client.run("pay")
            await running.client.resume(task.id, "input_1", approve())

        return asyncio.ensure_future(answer())

    task_id, left = await left_by_a_crash(asked, approved, "tool_started", until=world.begun())
    world.steady.set()
    again = replace(asked, model=FakeModel(says("I do not know")))
    async with restarted(again, left) as running:
        assert (await running.client.get_task(task_id)).state == TASK_STATE_COMPLETED
    assert "TOOL_OUTCOME_UNKNOWN" in read_by_the_model(again)
    assert len(world.keys) == 1


async def test_a_drain_that_cuts_a_call_off_asks_as_a_crash_does(world: World) -> None:
    store = FakeStore()
    async with started(replace(parts(world), store=store)) as running:
        calling = run(running)
        task_id = await store.has("tool_started")
        await world.begun()
        await running.service.drain(0)
        with pytest.raises(CallError, match="DRAINING"):
            await calling
    async with restarted(parts(world), store) as running:
        task = await running.client.get_task(task_id)
        assert [one.kind for one in task.pending_inputs] == [INPUT_KIND_OUTCOME_UNKNOWN]
    assert len(world.keys) == 1


async def test_of_one_turn_approvals_and_outcomes_are_asked_for_together(world: World) -> None:
    asked = Parts(
        model=FakeModel(calls(("pay", {}), ("send", {}), ("look", {})), says("done")),
        tools=[
            world.tool("pay", "side_effecting"),
            world.tool("send", "side_effecting"),
            world.tool("look", "read_only"),
        ],
        needs_approval=["send"],
    )
    task_id, left = await left_by_a_crash(asked, run, "tool_started", "tool_started", until=world.begun(2))
    world.steady.set()
    again = replace(asked, model=FakeModel(says("done")))
    async with restarted(again, left) as running:
        task = await running.client.get_task(task_id)
        kinds = [(one.tool_call.name, one.kind) for one in task.pending_inputs]
        assert kinds == [("pay", INPUT_KIND_OUTCOME_UNKNOWN), ("send", INPUT_KIND_APPROVAL)]
        await running.client.resume(task_id, "input_2", approve())
        await running.client.resume(task_id, "input_1", result("paid by hand"))
        assert (await finished(running, task_id)).state == TASK_STATE_COMPLETED
    assert isinstance(again.model, FakeModel)
    told = [message.text for message in again.model.requests[-1].messages if message.role is Role.TOOL]
    assert told == ["paid by hand", "did it", "did it"]
    assert world.keys.count(f"{task_id}/c0") == 1
    assert world.keys.count(f"{task_id}/c2") == 2


async def test_a_repeated_tool_call_of_unknown_outcome_says_so_and_never_runs(world: World) -> None:
    asked = parts(world)

    def invoke(running: Running) -> asyncio.Future[object]:
        return asyncio.ensure_future(running.client.invoke_tool("pay", request_id="order-17"))

    task_id, left = await left_by_a_crash(asked, invoke, "tool_started", until=world.begun())
    world.steady.set()
    async with started(replace(asked, store=left)) as running:
        for _ in range(3):
            response = await running.client.invoke_tool("pay", request_id="order-17")
            assert response.error.reason == reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN
            assert response.task_id == task_id
        task = await running.client.get_task(task_id)
        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN)
    assert world.keys == [f"{task_id}/call_1"]


async def test_a_tool_that_needs_approval_cannot_be_invoked_by_itself(world: World) -> None:
    world.steady.set()
    tools = [
        replace(world.tool("always", "read_only"), approval="always"),
        replace(world.tool("effects", "side_effecting"), approval="side_effecting"),
        replace(world.tool("none", "read_only"), approval="side_effecting"),
        replace(world.tool("never", "side_effecting"), approval="never"),
    ]
    async with started(Parts(tools=tools)) as running:
        listed = {one.name: one.needs_approval for one in await running.client.list_tools()}
        assert listed == {"always": True, "effects": True, "none": False, "never": False}
        for name, needs_approval in listed.items():
            if not needs_approval:
                assert (await running.client.invoke_tool(name)).output.string_value == "did it"
                continue
            with pytest.raises(CallError) as refused:
                await running.client.invoke_tool(name)
            assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "APPROVAL_REQUIRED")
            assert refused.value.metadata == {"tool": name}
        assert len((await running.client.list_tasks()).tasks) == 2
    assert len(world.keys) == 2

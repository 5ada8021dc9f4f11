"""RunTask and StreamTask, over a real connection."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from grpc import aio

from agent_service.client import CallError
from agent_service.errors import LLMError, ToolError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest, Role
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import TaskEvent, TaskLimits
from agent_service.v1.task_pb2 import (
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
)
from tests.harness import KEY, SOON_S, FakeModel, Parts, Running, calls, reply, says, started


@tool(side_effect="read_only")
async def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@tool(side_effect="side_effecting")
def explode(text: str) -> str:
    """Fails."""
    raise ToolError(f"it went off: {text}")


async def collect(running: Running, task: str, **options: float) -> list[TaskEvent]:
    async with aclosing(running.client.stream(task, timeout_s=options.get("timeout_s"))) as events:
        return [event async for event in events]


def arms(events: list[TaskEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


async def test_a_task_is_answered() -> None:
    async with started() as running:
        task = await running.client.run("  hi  ", labels={"env": "test"})
        assert task.state == TASK_STATE_COMPLETED
        assert task.output == "hello"
        assert task.task == "hi"
        assert task.labels == {"env": "test"}
        assert task.attempt == 1
        assert (task.usage.input_tokens, task.usage.output_tokens, task.usage.model_calls) == (10, 5, 1)
        assert task == await running.client.get_task(task.id)


async def test_the_journal_has_every_step_in_order_and_without_gaps() -> None:
    model = FakeModel(calls(("double", {"number": 21})), says("42"))
    async with started(Parts(model=model, tools=[double])) as running:
        task = await running.client.run("double 21")
        events = await running.store.read(task.id)
        assert arms(events) == [
            "submitted",
            "attempt_started",
            "model_started",
            "model_replied",
            "tool_started",
            "tool_finished",
            "model_started",
            "model_replied",
            "completed",
        ]
        assert [event.sequence for event in events] == list(range(1, 10))
        assert events[5].tool_finished.output_json == "42"
        assert task.last_sequence == 9


async def test_a_stream_shows_the_journal_with_live_text_between() -> None:
    model = FakeModel(calls(("double", {"number": 4})), says("the answer is eight", pieces=4))
    async with started(Parts(model=model, tools=[double])) as running:
        events = await collect(running, "double 4")
        journaled = [event for event in events if not event.HasField("text_delta")]
        assert journaled == await running.store.read(events[0].task_id)
        deltas = [event.text_delta for event in events if event.HasField("text_delta")]
        assert "".join(delta.text for delta in deltas) == "the answer is eight"
        offsets = [delta.offset for delta in deltas]
        assert offsets == [sum(len(delta.text) for delta in deltas[:index]) for index in range(len(deltas))]


async def test_tool_results_reach_the_model_in_its_order_whatever_finished_first() -> None:
    released = asyncio.Event()

    @tool(side_effect="read_only")
    async def slow() -> str:
        """Ends after the quick one."""
        await released.wait()
        return "slow"

    @tool(side_effect="read_only")
    async def quick() -> str:
        """Ends first."""
        released.set()
        return "quick"

    model = FakeModel(calls(("slow", {}), ("quick", {})), says("done"))
    async with started(Parts(model=model, tools=[slow, quick])) as running:
        await running.client.run("both")
    results = [message.text for message in model.requests[1].messages if message.role is Role.TOOL]
    assert results == ["slow", "quick"]


async def test_a_failing_tool_is_a_value_for_the_model() -> None:
    model = FakeModel(calls(("explode", {"text": "boom"})), says("it failed"))
    async with started(Parts(model=model, tools=[explode])) as running:
        task = await running.client.run("try")
        assert task.state == TASK_STATE_COMPLETED
    assert "it went off: boom" in model.requests[1].messages[-1].text


async def test_arguments_that_break_the_schema_go_back_to_the_model_and_the_tool_never_starts() -> None:
    model = FakeModel(calls(("double", {"number": "many"})), says("sorry"))
    async with started(Parts(model=model, tools=[double])) as running:
        task = await running.client.run("double many")
        journal = await running.journal(task.id)
        assert "tool_started" not in journal
        assert "tool_finished" in journal
        assert task.usage.tool_calls == 0
    assert "number" in model.requests[1].messages[-1].text


async def test_an_unknown_tool_goes_back_to_the_model_with_the_names_of_those_it_has() -> None:
    model = FakeModel(calls(("duoble", {"number": 1})), says("sorry"))
    async with started(Parts(model=model, tools=[double])) as running:
        await running.client.run("x")
    assert "double" in model.requests[1].messages[-1].text


async def test_reaching_the_limit_of_turns_fails_the_task_by_name() -> None:
    model = FakeModel(calls(("double", {"number": 1})))
    limits = TaskLimits(turns=3, tool_calls=50, parallel_tools=1)
    async with started(Parts(model=model, tools=[double], limits=limits)) as running:
        task = await running.client.run("for ever")
        assert task.state == TASK_STATE_FAILED
        assert task.failure.reason == reasons.ERROR_REASON_BUDGET_EXHAUSTED
        assert "3 turns" in task.failure.message
        assert len(model.requests) == 3


async def test_reaching_the_limit_of_tool_calls_fails_the_task_by_name() -> None:
    model = FakeModel(calls(("double", {"number": 1}), ("double", {"number": 2})))
    limits = TaskLimits(turns=50, tool_calls=3, parallel_tools=1)
    async with started(Parts(model=model, tools=[double], limits=limits)) as running:
        task = await running.client.run("for ever")
        assert task.failure.reason == reasons.ERROR_REASON_BUDGET_EXHAUSTED
        assert "3 tool calls" in task.failure.message
        assert task.usage.tool_calls == 2


async def test_a_model_that_gives_no_reply_fails_the_task_not_the_call() -> None:
    async def refuse(_: ModelRequest, __: ModelObserver) -> ModelReply:
        raise LLMError(reasons.ERROR_REASON_LLM_UNAVAILABLE, "status 503", retryable=True)

    async with started(Parts(model=FakeModel(refuse))) as running:
        task = await running.client.run("hi")
        assert task.state == TASK_STATE_FAILED
        assert task.failure.reason == reasons.ERROR_REASON_LLM_UNAVAILABLE
        assert task.failure.retryable


async def test_a_bug_in_a_model_adapter_fails_the_task_as_internal_and_tells_nothing_of_its_text() -> None:
    async def broken(_: ModelRequest, __: ModelObserver) -> ModelReply:
        raise ValueError("CANARY-4711")

    async with started(Parts(model=FakeModel(broken))) as running:
        task = await running.client.run("hi")
        assert task.failure.reason == reasons.ERROR_REASON_INTERNAL
        assert task.failure.message == "internal error"
        fault = next(line for line in running.log if line["event"] == "task_fault")
        assert fault["error"] == "ValueError"
        assert "CANARY-4711" not in str(running.log)


async def test_the_deadline_ends_a_task_with_its_reason() -> None:
    async def never(_: ModelRequest, __: ModelObserver) -> ModelReply:
        await asyncio.Event().wait()
        raise AssertionError

    async with started(Parts(model=FakeModel(never), timeout_s=0.2)) as running:
        task = await running.client.run("hi")
        assert task.state == TASK_STATE_FAILED
        assert task.failure.reason == reasons.ERROR_REASON_DEADLINE_EXCEEDED


async def test_a_caller_with_a_deadline_of_its_own_still_sees_the_outcome() -> None:
    async def never(_: ModelRequest, __: ModelObserver) -> ModelReply:
        await asyncio.Event().wait()
        raise AssertionError

    async with started(Parts(model=FakeModel(never))) as running, running.channel() as channel:
        stub = AgentServiceStub(channel)
        call = stub.RunTask(pb.RunTaskRequest(task="hi"), metadata=(("x-api-key", KEY),), timeout=2.0)
        response = await call
        assert response.task.failure.reason == reasons.ERROR_REASON_DEADLINE_EXCEEDED


class Gate:
    """A model that has begun and waits; tells when it was cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def step(self, _: ModelRequest, observer: ModelObserver) -> ModelReply:
        observer.text("I have begun")
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


async def until_terminal(running: Running, task_id: str) -> pb.GetTaskResponse:
    async with asyncio.timeout(SOON_S):
        while True:
            task = await running.client.get_task(task_id)
            if task.state in (TASK_STATE_CANCELED, TASK_STATE_FAILED, TASK_STATE_COMPLETED):
                return pb.GetTaskResponse(task=task)
            await asyncio.sleep(0)


async def test_a_client_that_vanishes_in_mid_stream_stops_the_model_and_the_end_is_written() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        stream = running.client.stream("hi")
        first = await anext(stream)
        await gate.begun.wait()
        await stream.aclose()
        async with asyncio.timeout(SOON_S):
            await gate.cancelled.wait()
        task = (await until_terminal(running, first.task_id)).task
        assert task.state == TASK_STATE_CANCELED
        assert (await running.journal(task.id))[-3:] == ["model_failed", "cancel_requested", "canceled"]
        assert task.usage.estimated
        assert task.usage.output_tokens > 0


async def test_a_client_that_vanishes_stops_its_tools_and_a_side_effecting_one_is_of_unknown_outcome() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @tool(side_effect="side_effecting")
    async def transfer(context: ToolContext) -> str:
        """Moves money, slowly."""
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return context.idempotency_key

    model = FakeModel(calls(("transfer", {}), ("double", {"number": 1})))
    async with started(Parts(model=model, tools=[transfer, double])) as running:
        stream = running.client.stream("pay")
        first = await anext(stream)
        await begun.wait()
        await stream.aclose()
        async with asyncio.timeout(SOON_S):
            await cancelled.wait()
        await until_terminal(running, first.task_id)
        events = await running.store.read(first.task_id)
        finished = [event.tool_finished for event in events if event.HasField("tool_finished")]
        outcomes = {one.tool_call_id: one for one in finished}
        assert outcomes["c0"].error.reason == reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN
        assert outcomes["c1"].output_json == "2"


async def test_a_unary_caller_that_vanishes_cancels_its_task_too() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        call = asyncio.create_task(running.client.run("hi"))
        await gate.begun.wait()
        call.cancel()
        async with asyncio.timeout(SOON_S):
            await gate.cancelled.wait()


async def test_the_tasks_id_is_in_the_initial_metadata_before_the_task_has_ended() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running, running.channel() as channel:
        # grpc.aio shows a unary call's headers only with its answer; as a stream, the same bytes come when they come.
        run = channel.unary_stream("/agent_service.v1.AgentService/RunTask", pb.RunTaskRequest.SerializeToString)
        metadata = aio.Metadata(("x-api-key", KEY), ("x-request-id", "r-1"))
        call = run(pb.RunTaskRequest(task="hi"), metadata=metadata)
        initial = dict(await call.initial_metadata())
        assert initial["x-request-id"] == "r-1"
        task = await running.client.get_task(initial["x-task-id"])
        assert task.task == "hi"
        call.cancel()


async def test_another_tenants_task_is_not_found() -> None:
    async with started() as running:
        task = await running.client.run("hi")
        with pytest.raises(CallError) as refused:
            await running.other_tenant.get_task(task.id)
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "TASK_NOT_FOUND")


@pytest.mark.parametrize("task_id", ["", "nope", "x" * 500, "ütf", "a b"])
async def test_a_malformed_task_id_is_not_found(task_id: str) -> None:
    async with started() as running:
        with pytest.raises(CallError) as refused:
            await running.client.get_task(task_id)
        assert refused.value.reason == "TASK_NOT_FOUND"


async def test_more_tasks_than_the_server_may_run_are_refused_with_a_time_to_come_back() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), running_max=1)) as running:
        stream = running.client.stream("hi")
        await anext(stream)
        with pytest.raises(CallError) as refused:
            await running.client.run("and me")
        assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "OVERLOADED")
        assert refused.value.retry_after_s is not None
        await stream.aclose()


async def test_the_conversation_begins_with_the_instructions() -> None:
    model = FakeModel(says("ok"))
    async with started(Parts(model=model, instructions="be brief")) as running:
        await running.client.run("hi")
    told = [(message.role, message.text) for message in model.requests[0].messages[:2]]
    assert told == [(Role.SYSTEM, "be brief"), (Role.USER, "hi")]


async def test_a_users_own_agent_class_decides() -> None:
    from agent_service.agents.base import Action, AgentState, Complete

    class Parrot:
        def step(self, state: AgentState) -> Action:
            return Complete(f"Processed: {state.messages[-1].text}")

    async with started(Parts(agent=Parrot())) as running:
        assert (await running.client.run("Hello")).output == "Processed: Hello"


async def test_an_agent_that_raises_fails_its_task_and_no_other() -> None:
    class Broken:
        def step(self, state: object) -> object:
            raise RuntimeError("CANARY-4711")

    async with started(Parts(agent=Broken())) as running:  # type: ignore[arg-type]
        task = await running.client.run("hi")
        assert task.failure.reason == reasons.ERROR_REASON_INTERNAL
        assert "CANARY" not in str(running.log)


async def test_replies_of_repeated_call_ids_are_told_apart() -> None:
    model = FakeModel(calls(("double", {"number": 1})), calls(("double", {"number": 2})), says("done"))
    async with started(Parts(model=model, tools=[double])) as running:
        task = await running.client.run("x")
        events = await running.store.read(task.id)
        ids = [event.tool_finished.tool_call_id for event in events if event.HasField("tool_finished")]
        assert len(set(ids)) == 2


async def test_an_empty_answer_completes_the_task() -> None:
    async def nothing(_: ModelRequest, __: ModelObserver) -> ModelReply:
        return reply("")

    async with started(Parts(model=FakeModel(nothing))) as running:
        task = await running.client.run("hi")
        assert (task.state, task.output) == (TASK_STATE_COMPLETED, "")

"""Replies that did not end as they should: their calls are not run, and an answer that was cut says so."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import orjson
import pytest

from agent_service.agents.base import Action, AgentState, AskModel, CallTools, Complete
from agent_service.engine.attempt import tool_calls
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest, Role
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED
from agent_service.v1.task_event_pb2 import (
    FINISH_REASON_CONTENT_FILTER,
    FINISH_REASON_LENGTH,
    FINISH_REASON_UNSPECIFIED,
    FinishReason,
)
from agent_service.v1.task_pb2 import INPUT_KIND_OUTCOME_UNKNOWN, TASK_STATE_COMPLETED, TASK_STATE_FAILED
from tests.fakes.crashes import World, left_by_a_crash, restarted
from tests.harness import FakeModel, Parts, Step, calls, says, started


def ending(step: Step, finish_reason: FinishReason.ValueType) -> Step:
    """The step with another reason for its end."""

    async def ends(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        reply: ModelReply = await step(request, observer)
        return replace(reply, finish_reason=finish_reason)

    return ends


def cut(step: Step) -> Step:
    return ending(step, FINISH_REASON_LENGTH)


class Persistent:
    """An agent that runs what it is asked to, and goes on whatever the model stopped for."""

    def step(self, state: AgentState) -> Action:
        if state.calls_open:
            return CallTools(state.calls_open)
        if state.last_reply is None or state.messages[-1].role is not Role.ASSISTANT:
            return AskModel(state.messages, None)
        return Complete(state.last_reply.text)


def results(parts: Parts) -> list[str]:
    """What the model read of its calls, in the last request."""
    assert isinstance(parts.model, FakeModel)
    return [message.text for message in parts.model.requests[-1].messages if message.role is Role.TOOL]


@pytest.mark.parametrize(
    "finish_reason", [FINISH_REASON_LENGTH, FINISH_REASON_CONTENT_FILTER, FINISH_REASON_UNSPECIFIED]
)
async def test_the_calls_of_a_reply_that_is_not_whole_are_not_run_and_the_model_reads_why(
    finish_reason: FinishReason.ValueType,
) -> None:
    world = World()
    world.steady.set()
    model = FakeModel(ending(calls(("pay", {}), ("unknown", {})), finish_reason), says("done"))
    parts = Parts(model=model, tools=[world.tool("pay", "side_effecting")], agent=Persistent(), needs_approval=["pay"])
    async with started(parts) as running:
        task = await running.client.run("pay")
        journal = await running.journal(task.id)
    assert (task.state, task.output, task.usage.tool_calls) == (TASK_STATE_COMPLETED, "done", 0)
    assert "tool_started" not in journal
    assert journal.count("tool_finished") == 2
    assert world.keys == []
    error = {"error": {"reason": "TOOL_FAILED", "message": tool_calls.CUT_OFF}}
    assert results(parts) == 2 * [orjson.dumps(error).decode()]


async def test_what_a_model_calls_again_after_it_was_cut_is_run() -> None:
    world = World()
    world.steady.set()
    model = FakeModel(cut(calls(("pay", {}))), calls(("pay", {})), says("paid"))
    async with started(Parts(model=model, tools=[world.tool("pay", "side_effecting")])) as running:
        task = await running.client.run("pay")
    assert (task.output, task.usage.tool_calls, len(world.keys)) == ("paid", 1, 1)
    assert not task.output_truncated


async def test_the_usual_agent_ends_where_a_content_filter_stopped_the_reply_and_runs_nothing() -> None:
    world = World()
    model = FakeModel(ending(calls(("pay", {})), FINISH_REASON_CONTENT_FILTER))
    async with started(Parts(model=model, tools=[world.tool("pay", "side_effecting")])) as running:
        task = await running.client.run("pay")
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_LLM_REJECTED)
    assert world.keys == []


async def test_a_call_that_an_earlier_version_had_started_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    parts = Parts(model=FakeModel(cut(calls(("pay", {}))), says("done")), tools=[world.tool("pay", "side_effecting")])
    with monkeypatch.context() as earlier:
        earlier.setattr(tool_calls, "_WHOLE", frozenset(FinishReason.values()))
        task_id, left = await left_by_a_crash(
            parts, lambda running: running.client.run("pay"), "tool_started", until=world.begun()
        )
    async with restarted(parts, left) as running:
        task = await running.client.get_task(task_id)
    assert [asked.kind for asked in task.pending_inputs] == [INPUT_KIND_OUTCOME_UNKNOWN]
    assert len(world.keys) == 1


async def test_an_answer_that_was_cut_says_so_wherever_it_is_shown() -> None:
    async with started(Parts(model=FakeModel(cut(says("It is fi")), says("It is five.")))) as running:
        async with asyncio.timeout(20), aclosing(running.client.stream("go")) as events:
            seen = [event async for event in events]
        whole = await running.client.run("go again")
        shown = await running.client.get_task(seen[0].task_id)
        short = (await running.client.list_tasks()).tasks
        full = (await running.client.list_tasks(full=True)).tasks
    assert (seen[-1].completed.output, seen[-1].completed.output_truncated) == ("It is fi", True)
    assert (shown.output, shown.output_truncated) == ("It is fi", True)
    assert not whole.output_truncated
    assert [(task.output, task.output_truncated) for task in short] == [("", False), ("", True)]
    assert [(task.output, task.output_truncated) for task in full] == [("It is five.", False), ("It is fi", True)]


async def test_a_task_of_several_attempts_says_too_that_its_answer_was_cut() -> None:
    world = World()
    parts = Parts(model=FakeModel(calls(("look", {}))), tools=[world.tool("look", "read_only")])
    task_id, left = await left_by_a_crash(
        parts, lambda running: running.client.run("go"), "tool_started", until=world.begun()
    )
    world.steady.set()
    async with restarted(replace(parts, model=FakeModel(cut(says("It is fi")))), left) as running:
        async with asyncio.timeout(20), aclosing(running.client.watch(task_id)) as events:
            _ = [event async for event in events]
        (listed,) = (await running.client.list_tasks()).tasks
        shown = await running.client.get_task(task_id)
    assert (shown.attempt, shown.output_truncated, listed.output_truncated) == (2, True, True)

"""The agent port, as whoever writes an agent meets it: one class, one method, no base class."""

from __future__ import annotations

from typing import Any

import pytest

from agent_service.agents.base import Action, AgentState, AskModel, CallTools, Complete, Fail
from agent_service.engine.task.state import FoldedTask
from agent_service.llm.base import Message, Model, Role
from agent_service.tools.base import Tool
from agent_service.tools.registry import ToolRegistry
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED, Failure
from tests.harness import FakeModel, Parts, calls, says, started


class Processor:
    """The smallest agent: answers at once, out of what it was asked."""

    def step(self, state: AgentState) -> Action:
        return Complete(f"Processed: {state.messages[-1].text}")


class Twice:
    """Asks its model twice and answers with both replies; what it remembers is in the state, not in itself."""

    def step(self, state: AgentState) -> Action:
        replies = [message.text for message in state.messages if message.role is Role.ASSISTANT]
        if len(replies) < 2:
            return AskModel([*state.messages, Message(Role.USER, f"attempt {len(replies) + 1}")])
        return Complete(" / ".join(replies))


class Refuser:
    def step(self, state: AgentState) -> Action:
        return Fail(Failure(reason=reasons.ERROR_REASON_LLM_REJECTED, message="not my kind of task"))


class Wrong:
    def step(self, state: AgentState) -> Any:
        return "done"


def test_an_agent_answers_what_it_is_asked(agent_context: AgentState) -> None:
    agent_context.messages.append(Message(Role.USER, "Hello"))

    action = Processor().step(agent_context)

    assert action == Complete("Processed: Hello")


def test_the_same_state_gives_the_same_action_again_and_leaves_the_state_alone(agent_context: AgentState) -> None:
    agent_context.messages.append(Message(Role.USER, "Hello"))

    assert Twice().step(agent_context) == Twice().step(agent_context)
    assert agent_context == AgentState(messages=[Message(Role.USER, "Hello")])


async def test_a_users_agent_runs_behind_the_service() -> None:
    async with started(Parts(agent=Processor())) as running:
        task = await running.client.run("Hello")

        assert (task.state, task.output) == (TASK_STATE_COMPLETED, "Processed: Hello")
        assert task.id
        assert await running.journal(task.id) == ["submitted", "attempt_started", "completed"]


async def test_an_agent_decides_what_its_model_reads() -> None:
    model = FakeModel(says("one"), says("two"))
    async with started(Parts(agent=Twice(), model=model)) as running:
        task = await running.client.run("count")

    assert task.output == "one / two"
    assert [request.messages[-1].text for request in model.requests] == ["attempt 1", "attempt 2"]


async def test_an_agent_that_fails_its_task_says_why() -> None:
    async with started(Parts(agent=Refuser())) as running:
        task = await running.client.run("Hello")

    assert task.state == TASK_STATE_FAILED
    assert (task.failure.reason, task.failure.message) == (reasons.ERROR_REASON_LLM_REJECTED, "not my kind of task")


async def test_what_is_no_action_fails_the_task_and_not_the_server() -> None:
    async with started(Parts(agent=Wrong())) as running:
        task = await running.client.run("Hello")

        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_INTERNAL)
        assert [line["error"] for line in running.log if line["event"] == "task_fault"] == ["TypeError"]


async def test_the_scripted_model_serves_an_agent_in_tests_as_it_does_in_development(mock_llm: Model) -> None:
    async with started(Parts(model=mock_llm)) as running:
        task = await running.client.run("Hello")

        assert task.state == TASK_STATE_COMPLETED
        assert "scripted model" in task.output
        replied = (await running.store.read(task.id))[3].model_replied
        assert replied.provider_model == "scripted"


async def test_a_tool_of_the_registry_is_run_by_callers_and_by_models(
    sample_tool: Tool, tool_registry: ToolRegistry
) -> None:
    model = FakeModel(calls(("test_echo", {"text": "ping"})), says("pong"))
    async with started(Parts(model=model, tools=list(tool_registry))) as running:
        response = await running.client.invoke_tool(sample_tool.name, {"text": "ping"})
        await running.client.run("echo")

    assert response.output.string_value == "ping"
    assert model.requests[1].messages[-1].text == "ping"


@pytest.mark.parametrize("action", [AskModel, CallTools, Complete, Fail])
def test_an_action_cannot_be_changed_once_it_is_taken(action: type) -> None:
    made = action(None)
    with pytest.raises(AttributeError):
        setattr(made, next(iter(action.__match_args__)), "else")  # type: ignore[attr-defined]


def test_a_new_task_begins_with_an_empty_state(agent_context: AgentState) -> None:
    assert FoldedTask().agent_state == agent_context

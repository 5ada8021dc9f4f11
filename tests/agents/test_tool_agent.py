"""The default agent's decisions, one state at a time."""

from __future__ import annotations

from agent_service.agents.base import AgentState, AskModel, CallTools, Complete, Fail
from agent_service.agents.tool_agent import ToolAgent
from agent_service.llm.base import Message, Role
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1 import task_event_pb2 as pb
from agent_service.v1.tool_pb2 import ToolCall

ASKED = Message(Role.USER, "What is 2 + 2?")
CALL = ToolCall(id="c1", name="calculator", arguments_json='{"expression": "2 + 2"}')


def answered(text: str, finish_reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP) -> AgentState:
    """The state after a reply in text."""
    reply = pb.ModelReplied(turn=1, text=text, finish_reason=finish_reason)
    return AgentState(messages=[ASKED, Message(Role.ASSISTANT, text)], last_reply=reply)


def test_a_new_task_asks_the_model_with_the_whole_conversation(agent_context: AgentState) -> None:
    agent_context.messages += [Message(Role.SYSTEM, "Be brief."), ASKED]

    action = ToolAgent().step(agent_context)

    assert isinstance(action, AskModel)
    assert list(action.messages) == [Message(Role.SYSTEM, "Be brief."), ASKED]


def test_calls_that_the_model_asked_for_are_run_before_anything_else() -> None:
    reply = pb.ModelReplied(turn=1, tool_calls=[CALL], finish_reason=pb.FINISH_REASON_TOOL_CALLS)
    state = AgentState(
        messages=[ASKED, Message(Role.ASSISTANT, "", (CALL,))], last_reply=reply, calls_open=[CALL, CALL]
    )

    assert ToolAgent().step(state) == CallTools([CALL, CALL])


def test_results_of_all_calls_are_taken_back_to_the_model() -> None:
    reply = pb.ModelReplied(turn=1, tool_calls=[CALL], finish_reason=pb.FINISH_REASON_TOOL_CALLS)
    messages = [ASKED, Message(Role.ASSISTANT, "", (CALL,)), Message(Role.TOOL, "4", tool_call_id="c1")]
    state = AgentState(
        messages=messages, last_reply=reply, results={"c1": pb.ToolFinished(tool_call_id="c1", output_json="4")}
    )

    assert ToolAgent().step(state) == AskModel(messages)


def test_a_reply_in_text_ends_the_task_with_it() -> None:
    assert ToolAgent().step(answered("4")) == Complete("4")


def test_an_empty_reply_is_an_answer_too() -> None:
    assert ToolAgent().step(answered("")) == Complete("")


def test_a_reply_that_was_cut_is_an_answer_that_says_so() -> None:
    assert ToolAgent().step(answered("4, beca", pb.FINISH_REASON_LENGTH)) == Complete("4, beca", truncated=True)


def test_a_reply_that_ended_for_an_unknown_reason_is_an_answer() -> None:
    assert ToolAgent().step(answered("4, because", pb.FINISH_REASON_UNSPECIFIED)) == Complete("4, because")


def test_a_reply_stopped_by_the_providers_filter_fails_the_task() -> None:
    action = ToolAgent().step(answered("I", pb.FINISH_REASON_CONTENT_FILTER))

    assert isinstance(action, Fail)
    assert action.failure.reason == reasons.ERROR_REASON_LLM_REJECTED
    assert "content filter" in action.failure.message
    assert not action.failure.retryable

"""The default agent: ask the model, run the tools that it asks for, until it answers in text."""

from __future__ import annotations

from collections.abc import Sequence

from agent_service.agents.base import Action, AgentState, AskModel, CallTools, Complete, Fail
from agent_service.llm.base import Message, Role
from agent_service.schemas.output_schema import OutputSchema
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED
from agent_service.v1.task_event_pb2 import FINISH_REASON_CONTENT_FILTER, FINISH_REASON_LENGTH
from agent_service.v1.task_pb2 import Failure

# How often an answer that breaks the output schema is sent back.
REASKS_MAX = 2


class ToolAgent:
    """Answers with the first reply that asks for no tool, and that fits the output schema where there is one.

    A reply that breaks the schema goes back to the model with what is wrong, REASKS_MAX times; the next one is the
    answer, whatever it is. What is said to the model follows from the state: no event tells of it.
    """

    def step(self, state: AgentState) -> Action:
        reply, schema = state.last_reply, state.output_schema
        if reply is not None and reply.finish_reason == FINISH_REASON_CONTENT_FILTER:
            message = "the provider's content filter stopped the answer"
            return Fail(Failure(reason=ERROR_REASON_LLM_REJECTED, message=message))
        if state.calls_open:
            return CallTools(state.calls_open)
        if reply is None or state.messages[-1].role is not Role.ASSISTANT:
            return AskModel(_with_corrections(state), schema)
        is_cut = reply.finish_reason == FINISH_REASON_LENGTH
        if schema is None:
            return Complete(reply.text, truncated=is_cut)
        answer = schema.answer_in(reply.text)
        if len(_answers(state.messages)) <= REASKS_MAX and schema.violations(answer):
            return AskModel(_with_corrections(state), schema)
        return Complete(answer, truncated=is_cut)


def _answers(messages: Sequence[Message]) -> list[int]:
    """Return where the model has answered in text since somebody last spoke to it: all but the last were sent back."""
    found: list[int] = []
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role is Role.USER:
            break
        if messages[index].role is Role.ASSISTANT and not messages[index].tool_calls:
            found.append(index)
    return found[::-1]


def _with_corrections(state: AgentState) -> Sequence[Message]:
    """The conversation, with what was wrong behind each answer that was sent back."""
    if state.output_schema is None or not (answers := _answers(state.messages)):
        return state.messages
    messages = list(state.messages)
    for index in reversed(answers):
        messages.insert(index + 1, Message(Role.USER, _correction(state.output_schema, messages[index].text)))
    return messages


def _correction(schema: OutputSchema, text: str) -> str:
    found = schema.violations(schema.answer_in(text))
    broken = "\n".join(f"- {violation.field or 'the answer'}: {violation.description}" for violation in found)
    return f"Your answer does not fit its JSON Schema:\n{broken}\nAnswer again, with the corrected JSON document alone."

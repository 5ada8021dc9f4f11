"""The default agent: calls the model and runs the requested tools, until the model answers in text."""

from __future__ import annotations

from collections.abc import Sequence

from agent_service.agents.base import Action, AgentState, AskModel, CallTools, Complete, Fail
from agent_service.llm.base import Message, Role
from agent_service.schemas.output_schema import OutputSchema
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED
from agent_service.v1.task_event_pb2 import FINISH_REASON_CONTENT_FILTER, FINISH_REASON_LENGTH
from agent_service.v1.task_pb2 import Failure

# The number of times that an answer that violates the output schema is returned for correction.
REASKS_MAX = 2


class ToolAgent:
    """Answers with the first reply without tool calls that fits the output schema, if there is one.

    A reply that violates the schema is returned to the model with its violations, up to REASKS_MAX times; the next one
    is the answer in any case. The corrections are derived from the state: no event contains them.
    """

    def step(self, state: AgentState) -> Action:
        reply, schema = state.last_reply, state.output_schema
        if reply is not None and reply.finish_reason == FINISH_REASON_CONTENT_FILTER:
            message = "the provider's content filter stopped the answer"
            return Fail(Failure(reason=ERROR_REASON_LLM_REJECTED, message=message))
        if state.calls_open:
            return CallTools(state.calls_open)
        if reply is None or state.messages[-1].role is not Role.ASSISTANT:
            return AskModel(_with_corrections(state) if schema is not None else state.messages, schema)
        is_cut = reply.finish_reason == FINISH_REASON_LENGTH
        if schema is None:
            return Complete(reply.text, truncated=is_cut)
        answer = schema.answer_in(reply.text)
        if len(_answers(state.messages)) <= REASKS_MAX and schema.violations(answer):
            return AskModel(_with_corrections(state), schema)
        return Complete(answer, truncated=is_cut)


def _answers(messages: Sequence[Message]) -> list[int]:
    """Return the indices of the model's answers in text since the last user message. All but the last were rejected."""
    found: list[int] = []
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role is Role.USER:
            break
        if messages[index].role is Role.ASSISTANT and not messages[index].tool_calls:
            found.append(index)
    return found[::-1]


def _with_corrections(state: AgentState) -> Sequence[Message]:
    """Return the conversation, with the violations after each answer that was returned for correction."""
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

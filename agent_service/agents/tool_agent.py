"""The default agent: ask the model, run the tools that it asks for, until it answers in text."""

from __future__ import annotations

from agent_service.agents.base import Action, AgentState, AskModel, CallTools, Complete, Fail
from agent_service.llm.base import Role
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED
from agent_service.v1.task_event_pb2 import FINISH_REASON_CONTENT_FILTER
from agent_service.v1.task_pb2 import Failure


class ToolAgent:
    """Answers with the first reply that asks for no tool."""

    def step(self, state: AgentState) -> Action:
        if state.calls_open:
            return CallTools(state.calls_open)
        reply = state.last_reply
        if reply is None or state.messages[-1].role is not Role.ASSISTANT:
            return AskModel(state.messages)
        if reply.finish_reason == FINISH_REASON_CONTENT_FILTER:
            message = "the provider's content filter stopped the answer"
            return Fail(Failure(reason=ERROR_REASON_LLM_REJECTED, message=message))
        return Complete(reply.text)

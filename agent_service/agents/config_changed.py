"""The agent of a task whose own is gone: fails it, because nothing else can go on as it was accepted."""

from __future__ import annotations

from agent_service.agents.base import Action, AgentState, Fail
from agent_service.v1.error_reason_pb2 import ERROR_REASON_CONFIG_CHANGED
from agent_service.v1.task_pb2 import Failure


class ConfigChanged:
    """Stands in where an agent, its model or a schema of its tools is not what the task was accepted with."""

    def step(self, state: AgentState) -> Action:
        message = "the configuration no longer has the agent, model or tools that the task was accepted with"
        return Fail(Failure(reason=ERROR_REASON_CONFIG_CHANGED, message=message))

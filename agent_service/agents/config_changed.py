"""The agent of a task whose configured agent is gone: fails the task, which cannot continue as it was accepted."""

from __future__ import annotations

from agent_service.agents.base import Action, AgentState, Fail
from agent_service.v1.error_reason_pb2 import ERROR_REASON_CONFIG_CHANGED
from agent_service.v1.task_pb2 import Failure


class ConfigChanged:
    """Replaces an agent if it, its model or a schema of its tools has changed since the task was accepted."""

    def step(self, state: AgentState) -> Action:
        message = "the configuration no longer has the agent, model or tools that the task was accepted with"
        return Fail(Failure(reason=ERROR_REASON_CONFIG_CHANGED, message=message))

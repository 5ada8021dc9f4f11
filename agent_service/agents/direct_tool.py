"""The agent behind `ToolInvoke`: runs the single tool call of the task."""

from __future__ import annotations

from agent_service.agents.base import Action, AgentState, CallTools, Complete, Fail


class DirectTool:
    """Ends the task with the tool's result, or its error."""

    def step(self, state: AgentState) -> Action:
        if state.calls_open:
            return CallTools(state.calls_open)
        (finished,) = state.results.values()
        if finished.HasField("error"):
            return Fail(finished.error)
        return Complete(finished.output_json)

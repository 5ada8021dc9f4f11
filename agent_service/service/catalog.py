"""The agents and tools of one configuration: immutable, replaced as a whole when the configuration is reloaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent_service.agents.direct_tool import DirectTool
from agent_service.engine.runtime import AgentRuntime
from agent_service.errors import NotFoundError, PermissionDeniedError
from agent_service.keys.base import Principal
from agent_service.text.suggestions import did_you_mean
from agent_service.text.times import duration
from agent_service.tools.base import Tool
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.toolset import Toolset
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.agent_pb2 import Agent
from agent_service.v1.task_event_pb2 import TaskLimits, TaskSubmitted
from agent_service.v1.task_pb2 import TASK_KIND_AGENT, TASK_KIND_TOOL
from agent_service.v1.tool_pb2 import Tool as ToolMessage

# Unfinished tasks of a session that a new task may wait for, if the agent queues tasks at all.
SESSION_WAITING_MAX = 10


@dataclass(frozen=True, slots=True)
class ConfiguredAgent:
    """An agent as configured. `admitted` has the fields that are the same in all `submitted` events of its tasks."""

    runtime: AgentRuntime
    admitted: TaskSubmitted
    description: str
    timeout_s: float
    timeout_max_s: float

    @classmethod
    def of(
        cls,
        runtime: AgentRuntime,
        *,
        instructions: str,
        limits: TaskLimits,
        description: str = "",
        timeout_s: float,
        timeout_max_s: float,
        session_waiting_max: int = SESSION_WAITING_MAX,
        submitter_may_answer: bool = True,
        input_timeout_s: float = 86_400.0,
        output_schema_json: str = "",
    ) -> ConfiguredAgent:
        admitted = TaskSubmitted(
            kind=TASK_KIND_AGENT,
            agent=runtime.name,
            instructions=instructions,
            model=runtime.model.key if runtime.model else "",
            tool_digests={name: tool.schema_digest for name, tool in runtime.tools.items()},
            limits=limits,
            session_waiting_max=session_waiting_max,
            submitter_may_not_answer=not submitter_may_answer,
            input_timeout=duration(input_timeout_s),
            output_schema_json=output_schema_json,
        )
        return cls(runtime, admitted, description, timeout_s, timeout_max_s)


class Catalog:
    """The agents and tools that can be run, by the keys that may run them."""

    def __init__(self, agents: Iterable[ConfiguredAgent], tools: ToolRegistry, *, default_agent: str) -> None:
        self.agents: Mapping[str, ConfiguredAgent] = {agent.runtime.name: agent for agent in agents}
        self.tools = tools
        self.default_agent = default_agent
        self._tool_runtimes = {tool.name: _tool_runtime(tool, tools.toolsets[tool.name]) for tool in tools}

    def agent_for(self, principal: Principal, name: str) -> ConfiguredAgent:
        """Return the agent of that name; the default agent for "".

        Raises:
            NotFoundError: AGENT_NOT_FOUND. PermissionDeniedError: AGENT_NOT_ALLOWED.
        """
        name = name or self.default_agent
        if not principal.may_use_agent(name):
            message = f"the key may not use agent {name!r}"
            raise PermissionDeniedError(reasons.ERROR_REASON_AGENT_NOT_ALLOWED, message, metadata={"agent": name})
        agent = self.agents.get(name)
        if agent is None:
            message = f"there is no agent {name!r}{did_you_mean(name, self.agents, written=repr)}"
            raise NotFoundError(reasons.ERROR_REASON_AGENT_NOT_FOUND, message, metadata={"agent": name})
        return agent

    def tool_for(self, principal: Principal, name: str) -> Tool:
        """Return the tool of that name.

        Raises:
            NotFoundError: TOOL_NOT_FOUND. PermissionDeniedError: TOOL_NOT_ALLOWED.
        """
        if not principal.may_use_tool(name):
            message = f"the key may not use tool {name!r}"
            raise PermissionDeniedError(reasons.ERROR_REASON_TOOL_NOT_ALLOWED, message, metadata={"tool": name})
        return self.tools.get(name)

    def tool_runtime(self, tool: Tool, timeout_s: float) -> AgentRuntime:
        """Return the runtime of a TOOL task that runs this tool for at most `timeout_s`."""
        runtime = self._tool_runtimes[tool.name]
        if timeout_s >= tool.timeout_s:
            return runtime
        return replace(runtime, tools={tool.name: replace(tool, timeout_s=timeout_s)})

    def runtime_of(self, submitted: TaskSubmitted) -> AgentRuntime | None:
        """Return the runtime for a task that was accepted under an earlier configuration; None if its agent, model or
        tools were removed or changed.
        """
        if submitted.kind == TASK_KIND_TOOL:
            runtime = self._tool_runtimes.get(submitted.agent)
        else:
            agent = self.agents.get(submitted.agent)
            runtime = agent.runtime if agent else None
        if runtime is None or (submitted.model and (runtime.model is None or runtime.model.key != submitted.model)):
            return None
        digests = {name: tool.schema_digest for name, tool in runtime.tools.items()}
        unchanged = all(digests.get(name) == digest for name, digest in submitted.tool_digests.items())
        return runtime if unchanged else None

    def list_agents(self, principal: Principal) -> list[Agent]:
        """Return the agents that the key may use, by name."""
        return [self._describe(agent) for name, agent in sorted(self.agents.items()) if principal.may_use_agent(name)]

    def list_tools(self, principal: Principal) -> list[ToolMessage]:
        """Return the tools that the key may use, by name."""
        return [_describe_tool(tool) for tool in self.tools if principal.may_use_tool(tool.name)]

    def _describe(self, agent: ConfiguredAgent) -> Agent:
        return Agent(
            name=agent.runtime.name,
            description=agent.description,
            model=agent.admitted.model,
            tools=sorted(agent.runtime.tools),
            timeout=duration(agent.timeout_s),
            timeout_max=duration(agent.timeout_max_s),
            is_default=agent.runtime.name == self.default_agent,
        )


def _tool_runtime(tool: Tool, toolset: Toolset) -> AgentRuntime:
    # The caller itself decides about an unknown outcome: the task returns it as an error instead of waiting.
    return AgentRuntime(
        name=tool.name,
        agent=DirectTool(),
        model=None,
        tools={tool.name: tool},
        asks_outcome=False,
        toolsets={tool.name: toolset},
    )


def _describe_tool(tool: Tool) -> ToolMessage:
    return ToolMessage(
        name=tool.name,
        description=tool.description,
        input_schema_json=tool.input_schema_json,
        side_effect=tool.side_effect,
        timeout=duration(tool.timeout_s),
        needs_approval=tool.needs_approval(),
    )

"""What the engine works with: the agents as they are configured now, and the ports to the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent_service.agents.base import Agent
from agent_service.feed.base import Feed
from agent_service.limits.base import Limiter
from agent_service.llm.base import Model, ToolSpec
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.store.base import Store
from agent_service.tools.base import Tool
from agent_service.tools.runner import ToolRunner


@dataclass(frozen=True, slots=True)
class ModelRuntime:
    """A configured model. `tokens_max` is the most that one reply may have."""

    key: str
    model: Model
    tokens_max: int


@dataclass(frozen=True, slots=True)
class AgentRuntime:
    """An agent and all that its tasks may use. `model` is None for agents that never ask one."""

    name: str
    agent: Agent
    model: ModelRuntime | None
    tools: Mapping[str, Tool]
    tool_specs: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as the engine sees it. `worker` names this process."""

    store: Store
    feed: Feed
    limiter: Limiter
    tools: ToolRunner
    log: EventLog
    metrics: Metrics
    worker: str

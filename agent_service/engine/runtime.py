"""The engine's inputs: the configured agents with their models and tools, and the ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent_service.agents.base import Agent
from agent_service.engine.tenant_budgets import TenantBudgets
from agent_service.limits.fair import FairLimiter
from agent_service.llm.base import Model, ToolSpec
from agent_service.llm.price import Price
from agent_service.llm.token_counts import ANY, Estimate
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import NO_TRACER, Tracer
from agent_service.tools.base import Tool
from agent_service.tools.toolset import Toolset


@dataclass(frozen=True, slots=True)
class ModelRuntime:
    """A configured model. `tokens_max` bounds one reply, `context_tokens` input and reply together. `estimate` counts
    tokens before a request. `fallbacks` are the models that `model` may ask instead, in order. `provider` and
    `model_id` name it in traces.
    """

    key: str
    model: Model
    tokens_max: int
    context_tokens: int = 8192
    estimate: Estimate = ANY
    fallbacks: tuple[ModelRuntime, ...] = ()
    provider: str = ""
    model_id: str = ""

    def of(self, key: str) -> ModelRuntime:
        """Return the fallback with this key; this model if there is none."""
        if key == self.key:
            return self
        return next((fallback for fallback in self.fallbacks if fallback.key == key), self)


@dataclass(frozen=True, slots=True)
class AgentRuntime:
    """An agent and everything that its tasks may use. `model` is None for agents that never request one.

    `needs_approval` names the tools whose calls wait for approval. If a crash left the outcome of a side-effecting call
    unknown, `asks_outcome` makes the task wait for a decision; otherwise the call returns an error to the model. If a
    limit on model calls or tokens is full, `waits_for_limits` makes the task wait; otherwise it fails. `prices` holds
    the prices of models by key, `toolsets` the toolset of each tool by the tool's name. `tools_tokens` is the estimate
    of what `tool_specs` take.
    """

    name: str
    agent: Agent
    model: ModelRuntime | None
    tools: Mapping[str, Tool]
    tool_specs: tuple[ToolSpec, ...] = ()
    needs_approval: frozenset[str] = frozenset()
    asks_outcome: bool = True
    prices: Mapping[str, Price] = field(default_factory=dict)
    waits_for_limits: bool = True
    toolsets: Mapping[str, Toolset] = field(default_factory=dict)
    tools_tokens: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.model is not None:
            object.__setattr__(self, "tools_tokens", self.model.estimate.tools_tokens(self.tool_specs))


class DrainedError(Exception):
    """The process stops before the next step could finish. A later attempt does it."""


@dataclass(slots=True)
class Drain:
    """The drain of this process. `stops_at` is the end of its grace by the loop's clock; None before the drain."""

    stops_at: float | None = None

    @property
    def has_begun(self) -> bool:
        return self.stops_at is not None

    def leaves_time_for(self, seconds: float) -> bool:
        return self.stops_at is None or asyncio.get_running_loop().time() + seconds <= self.stops_at


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Log, metrics and traces."""

    log: EventLog
    metrics: Metrics
    tracer: Tracer = NO_TRACER


@dataclass(frozen=True, slots=True)
class ModelPorts:
    """The ports that requests to models use."""

    limiter: FairLimiter
    budgets: TenantBudgets
    drain: Drain
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class AttemptPorts:
    """The ports that an attempt uses besides its journal. `worker` names this process; no other process has or had that
    name. `clock` returns Unix time in seconds.
    """

    worker: str
    clock: Callable[[], float]
    drain: Drain
    models: ModelPorts
    telemetry: Telemetry

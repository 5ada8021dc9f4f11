"""What the engine works with: the agents as they are configured now, and the ports to the world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent_service.agents.base import Agent
from agent_service.engine.tenant_budgets import TenantBudgets
from agent_service.engine.timing import Timing
from agent_service.feed.base import Feed
from agent_service.limits.fair import FairLimiter
from agent_service.llm.base import Model, ToolSpec
from agent_service.llm.price import Price
from agent_service.llm.token_counts import ANY, Estimate
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import NO_TRACER, Tracer
from agent_service.store.base import Journal, Retention, TaskIndex, Workers
from agent_service.tools.base import Tool
from agent_service.tools.toolset import Toolset


@dataclass(frozen=True, slots=True)
class ModelRuntime:
    """A configured model. `tokens_max` is the most that one reply may have, `context_tokens` what input and reply may
    have together; `estimate` is how its tokens are counted before it is asked. `fallbacks` are those that `model` may
    ask in its place, in order. `provider` and `model_id` are what traces call it.
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
        """The model with this key, among this one and its fallbacks; this one where nobody knows it."""
        return next((one for one in self.fallbacks if one.key == key), self)


@dataclass(frozen=True, slots=True)
class AgentRuntime:
    """An agent and all that its tasks may use. `model` is None for agents that never ask one.

    `needs_approval` are the tools whose calls wait for approval. `asks_outcome` says whether the task waits for a
    decision where a crash left the outcome of a side-effecting call unknown; else the model is told that it is.
    `waits_for_limits` says whether it waits where a limit on model calls or tokens is full; else it fails. `prices` are
    those of the models that have one, by key. `toolsets` are where the tools come from, by the tool's name.
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


class DrainedError(Exception):
    """The process stops too soon for what is to be done next: another attempt does it."""


@dataclass(slots=True)
class Drain:
    """Whether this process is on its way out: `stops_at` is when, by the loop's clock; None as long as it is not."""

    stops_at: float | None = None

    @property
    def has_begun(self) -> bool:
        return self.stops_at is not None

    def leaves_time_for(self, seconds: float) -> bool:
        return self.stops_at is None or asyncio.get_running_loop().time() + seconds <= self.stops_at


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where it is said what happens."""

    log: EventLog
    metrics: Metrics
    tracer: Tracer = NO_TRACER


@dataclass(frozen=True, slots=True)
class ModelPorts:
    """What it takes to ask models."""

    limiter: FairLimiter
    budgets: TenantBudgets
    drain: Drain
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class AttemptPorts:
    """What an attempt uses beside its journal. `worker` and `clock` are those of `Ports`."""

    worker: str
    clock: Callable[[], float]
    drain: Drain
    models: ModelPorts
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as those see it who store, find, begin and end tasks. `worker` names this process, and no other that
    ever was. `clock` tells the time in seconds since 1970. `attempt` is what those use that drive tasks.
    """

    journal: Journal
    index: TaskIndex
    workers: Workers
    retention: Retention
    feed: Feed
    limiter: FairLimiter
    log: EventLog
    metrics: Metrics
    worker: str
    budgets: TenantBudgets
    drain: Drain
    clock: Callable[[], float]
    timing: Timing
    attempt: AttemptPorts

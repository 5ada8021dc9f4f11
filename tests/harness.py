"""A really started server on a free loopback port, put together from parts that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType
from typing import Any

import orjson

from agent_service.agents.base import Agent
from agent_service.agents.tool_agent import ToolAgent
from agent_service.bootstrap.assemble import ServiceParts, assemble
from agent_service.bootstrap.parts import server_options
from agent_service.client import AsyncClient, Tls
from agent_service.client.tls import channel
from agent_service.clock import SteadyClock
from agent_service.config.loader import load_settings
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.runtime import AgentRuntime, ModelRuntime
from agent_service.engine.tenant_budgets import Budget
from agent_service.engine.timing import TIMING, Timing
from agent_service.errors import AuthenticationError
from agent_service.keys.base import Keys, Principal, Scope
from agent_service.limits.base import Rule
from agent_service.limits.memory import MemoryLimiter
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest, ToolSpec
from agent_service.llm.price import Price
from agent_service.observe.log import EventLog, render_json
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import NO_TRACER, Tracer
from agent_service.server.app import Listening, Server
from agent_service.server.interceptors.auth_failures import auth_failures_rule
from agent_service.server.stack import ServerParts
from agent_service.service.catalog import Catalog, ConfiguredAgent
from agent_service.service.requests import run_task_input
from agent_service.service.service import Service, ServiceOptions
from agent_service.store.base import Database, Orphan
from agent_service.store.memory import MemoryStore
from agent_service.tls.certificates import Certificates
from agent_service.tools.base import Tool
from agent_service.tools.decorator import FunctionTool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner
from agent_service.v1.error_reason_pb2 import ERROR_REASON_API_KEY_INVALID
from agent_service.v1.task_event_pb2 import FINISH_REASON_STOP, FINISH_REASON_TOOL_CALLS, TaskLimits
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall
from tests.support.server_process import transport_environ

WORKERS = count(1)
KEY = "test-key-of-tenant-acme"
OTHER_KEY = "test-key-of-tenant-globex"
# The bound of what happens at once: a machine that is busy with other things may take that long.
SOON_S = 20.0


class TestKeys:
    """Two tenants with every scope but admin, and `more` keys by their secret, or the identity in a certificate."""

    __test__ = False

    def __init__(self, more: Mapping[str, Principal] = MappingProxyType({})) -> None:
        whole = frozenset(Scope) - {Scope.ADMIN}
        tenants = {KEY: "acme", OTHER_KEY: "globex"}
        self._known = {secret: Principal(tenant, tenant, whole) for secret, tenant in tenants.items()} | dict(more)

    def authenticate(self, secret: str) -> Principal:
        principal = self._known.get(secret)
        if principal is None:
            raise AuthenticationError(ERROR_REASON_API_KEY_INVALID, "the key is not known")
        return principal

    def identify(self, identities: Sequence[str]) -> Principal | None:
        return next((self._known[identity] for identity in identities if identity in self._known), None)

    def revoke(self, secret: str) -> None:
        del self._known[secret]

    def is_valid(self, key_id: str) -> bool:
        return any(principal.key_id == key_id for principal in self._known.values())


Step = Callable[[ModelRequest, ModelObserver], Any]


class FakeModel:
    """A model whose replies a test writes: one step for each request, the last one again and again.

    A step is an async function of (request, observer) to a reply; `says` and `calls` make the usual ones.
    """

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[ModelRequest] = []

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await observer.started("fake", 1)
        step = self._steps[min(len(self.requests), len(self._steps) - 1)]
        self.requests.append(request._replace(messages=tuple(request.messages)))
        reply: ModelReply = await step(request, observer)
        return reply


def says(text: str, *, pieces: int = 1) -> Step:
    """A step that writes a text, in so many pieces."""

    async def step(_: ModelRequest, observer: ModelObserver) -> ModelReply:
        size = -(-len(text) // pieces)
        for start in range(0, len(text), size):
            observer.text(text[start : start + size])
        return reply(text)

    return step


def calls(*tool_calls: tuple[str, dict[str, Any]]) -> Step:
    """A step that asks for tools: pairs of name and arguments."""

    async def step(_: ModelRequest, __: ModelObserver) -> ModelReply:
        made = [
            ToolCall(id=f"c{index}", name=name, arguments_json=orjson.dumps(arguments).decode())
            for index, (name, arguments) in enumerate(tool_calls)
        ]
        return ModelReply("", made, FINISH_REASON_TOOL_CALLS, Usage(input_tokens=10, output_tokens=5), "fake-1")

    return step


def reply(text: str) -> ModelReply:
    """A whole reply in text."""
    return ModelReply(text, [], FINISH_REASON_STOP, Usage(input_tokens=10, output_tokens=5), "fake-1")


@dataclass
class Parts:
    """What the server is made of; a test replaces what it is about."""

    model: Model = field(default_factory=lambda: FakeModel(says("hello")))
    agents: Sequence[str] = ("assistant",)
    tools: Sequence[Tool] = ()
    agent: Agent = field(default_factory=ToolAgent)
    limits: TaskLimits = field(default_factory=lambda: TaskLimits(turns=5, tool_calls=10, parallel_tools=4))
    rules: Sequence[Rule] = ()
    store: Database | None = None
    timeout_s: float = 30.0
    running_max: int = 2000
    tool_threads_max: int = 64
    drain_delay_s: float = 0.0
    drain_grace_s: float = 5.0
    instructions: str = ""
    needs_approval: Sequence[str] = ()
    asks_outcome: bool = True
    waits_for_limits: bool = True
    session_waiting_max: int = 10
    submitter_may_answer: bool = True
    input_timeout_s: float = 3600.0
    auth_failures_max: int = 1000
    keys: Keys = field(default_factory=TestKeys)
    output_schema_json: str = ""
    context_tokens: int = 8192
    options: ServiceOptions = field(default_factory=ServiceOptions)
    prices: Mapping[str, Price] = field(default_factory=dict)
    budgets: Sequence[Budget] = ()
    clock: Callable[[], float] = field(default_factory=SteadyClock)
    timing: Timing = TIMING
    certificates: Callable[[], Certificates] | None = None
    tls: Tls | None = None
    # While the ports are taken, and nobody but who asks for health is answered.
    starting: Callable[[Listening], Awaitable[None]] | None = None
    # Variables of the headings Connections and Admission.
    environ: Mapping[str, str] = field(default_factory=dict)
    tracer: Tracer = NO_TRACER


@dataclass
class Running:
    """The started server and what a test looks at from outside."""

    target: str
    health_target: str
    server: Server
    service: Service
    runner: Runner
    store: Database
    limiter: MemoryLimiter
    log: list[dict[str, Any]]
    metrics: Metrics
    client: AsyncClient
    other_tenant: AsyncClient
    tls: Tls | None

    def channel(self) -> Any:
        """A bare connection; untyped, for bytes that the stubs would not send."""
        return channel(self.target, self.tls, (("grpc.enable_http_proxy", 0),))

    async def is_quiet(self) -> None:
        """Wait until nothing runs and nothing is left to be begun."""
        while self.runner.running or await left(self.store):
            await self.runner.drained(timeout_s=None)
            await asyncio.sleep(0)

    async def journal(self, task_id: str) -> list[str]:
        """The arms of a task's journal."""
        return [str(event.WhichOneof("event")) for event in await self.store.read(task_id)]


async def left(store: Database) -> list[Orphan]:
    """The tasks that a process finds which comes to a store where nobody lives, begun ones first."""
    return [*await store.orphans("a newcomer", begun=True), *await store.orphans("a newcomer", begun=False)]


@asynccontextmanager
async def started(parts: Parts | None = None) -> AsyncIterator[Running]:
    """Start it, and stop it without a drain."""
    parts = parts or Parts()
    log: list[dict[str, Any]] = []
    events = EventLog("DEBUG", render_json, lambda line: log.append(orjson.loads(line)))
    metrics = Metrics("test")
    async with AsyncExitStack() as stack:
        store: Database = parts.store if parts.store is not None else await stack.enter_async_context(MemoryStore())
        tools = await stack.enter_async_context(ToolRunner(threads_max=parts.tool_threads_max))
        limiter = MemoryLimiter(parts.rules, on_denied=metrics.limit_denied)
        functions = [tool for tool in parts.tools if isinstance(tool, FunctionTool)]
        registry = ToolRegistry([PythonToolset(functions, tools)])
        agents = [_agent(parts, name, registry) for name in parts.agents]
        catalog = Catalog(agents, registry, default_agent="assistant")
        options = replace(
            server_options(load_settings({**transport_environ(), **parts.environ}, dotenv_path=None)),
            host="127.0.0.1",
            port=0,
            health_port=0,
            drain_delay_s=parts.drain_delay_s,
            drain_grace_s=parts.drain_grace_s,
        )
        service = assemble(
            ServiceParts(
                catalog=catalog,
                keys=parts.keys,
                store=store,
                log=events,
                metrics=metrics,
                limiter=limiter,
                budgets=parts.budgets,
                worker=f"test:{next(WORKERS)}",
                clock=parts.clock,
                timing=parts.timing,
                tracer=parts.tracer,
                running_max=parts.running_max,
                options=parts.options,
            )
        )
        stack.push_async_callback(service.close)
        server_parts = ServerParts(
            service,
            run_task_input(10_000),
            parts.keys,
            limiter,
            {"store": store.check, "tools": tools.check},
            events,
            metrics,
            auth_failures=MemoryLimiter([auth_failures_rule(parts.auth_failures_max, 3600.0)]),
            certificates=parts.certificates,
            tracer=parts.tracer,
        )
        server = Server(options, server_parts)
        listening = await server.bind()
        stack.push_async_callback(server.stop)
        if parts.starting is not None:
            await parts.starting(listening)
        target = f"127.0.0.1:{listening.port}"
        await service.begin()
        await server.start()
        client = await stack.enter_async_context(AsyncClient(target, api_key=KEY, tls=parts.tls, patience_s=0))
        other = await stack.enter_async_context(AsyncClient(target, api_key=OTHER_KEY, tls=parts.tls, patience_s=0))
        health_target = f"127.0.0.1:{listening.health_port}"
        yield Running(
            target,
            health_target,
            server,
            service,
            service.runner,
            store,
            limiter,
            log,
            metrics,
            client,
            other,
            parts.tls,
        )


def _agent(parts: Parts, name: str, registry: ToolRegistry) -> ConfiguredAgent:
    specs = tuple(ToolSpec(tool.name, tool.description, tool.input_schema_json) for tool in parts.tools)
    runtime = AgentRuntime(
        name=name,
        agent=parts.agent,
        model=ModelRuntime("fake", parts.model, 100, parts.context_tokens),
        tools={tool.name: tool for tool in parts.tools},
        tool_specs=specs,
        needs_approval=frozenset(parts.needs_approval),
        asks_outcome=parts.asks_outcome,
        prices=parts.prices,
        waits_for_limits=parts.waits_for_limits,
        toolsets=registry.toolsets,
    )
    return ConfiguredAgent.of(
        runtime,
        instructions=parts.instructions,
        limits=parts.limits,
        timeout_s=parts.timeout_s,
        timeout_max_s=3600.0,
        session_waiting_max=parts.session_waiting_max,
        submitter_may_answer=parts.submitter_may_answer,
        input_timeout_s=parts.input_timeout_s,
        output_schema_json=parts.output_schema_json,
    )

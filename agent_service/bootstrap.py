"""The composition root: the only place that names concrete classes and reads the configuration."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import prometheus_client

from agent_service.agents.base import Agent
from agent_service.agents.tool_agent import ToolAgent
from agent_service.config.loader import Config, tool_problems
from agent_service.config.schema import Agent as AgentConfig
from agent_service.config.schema import Model as ModelConfig
from agent_service.config.schema import RateLimit
from agent_service.engine.recovery import recover
from agent_service.engine.runner import Runner
from agent_service.engine.runtime import AgentRuntime, ModelRuntime, Ports
from agent_service.errors import ConfigError
from agent_service.feed.memory import MemoryFeed
from agent_service.keys import secret
from agent_service.keys.base import Keys
from agent_service.keys.reloading import ReloadingKeys
from agent_service.keys.ring import KeyRing, default_key
from agent_service.limits.base import Rule
from agent_service.limits.memory import MemoryLimiter
from agent_service.llm.base import Model, ToolSpec
from agent_service.llm.openai import OPENAI_BASE_URL, OpenAIModel
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.llm.script import Script
from agent_service.llm.scripted import ScriptedModel, default_script
from agent_service.observe.log import RENDERERS, EventLog, capture_libraries, stderr_sink
from agent_service.observe.metrics import Metrics
from agent_service.server.app import Server, ServerOptions
from agent_service.service.catalog import Catalog, ConfiguredAgent
from agent_service.service.requests import run_task_input
from agent_service.service.tasks import TaskService
from agent_service.store.base import Store
from agent_service.store.memory import MemoryStore
from agent_service.store.sqlite import SqliteStore
from agent_service.tools.base import Tool
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner
from agent_service.v1.task_event_pb2 import TaskLimits
from agent_service.version import version


@dataclass(frozen=True, slots=True)
class Service:
    """The running service, as its process and tests see it. `metrics_port` is 0 where metrics are not served."""

    port: int
    metrics_port: int
    server: Server
    log: EventLog


async def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT, then drain. A second signal ends the process at once, as safely as a crash.

    Raises:
        ConfigError: the configuration names what cannot be had.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with running(config) as service:
        await stop.wait()
        await service.server.drain()
        service.log.info("stopped")


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Service]:
    """Build everything, start it, and take it down again.

    Raises:
        ConfigError: the configuration names what cannot be had.
    """
    settings = config.settings
    log = EventLog(settings.log_level, RENDERERS[settings.log_format], stderr_sink)
    capture_libraries(log)
    metrics = Metrics(version())
    registry = _registry(config)
    agents = _agent_classes(config)
    async with AsyncExitStack() as stack:
        keys = _keys(config, log, stack)
        models = {key: await _model(config, key, model, stack) for key, model in config.models.items()}
        catalog = _catalog(config, registry, models, agents)
        store = await _store(settings.database_path, stack)
        limiter = MemoryLimiter(_rules(config.rate_limits))
        tools = await stack.enter_async_context(ToolRunner())
        worker = f"{socket.gethostname()}:{os.getpid()}"
        ports = Ports(store, MemoryFeed(), limiter, tools, log, metrics, worker)
        runner = await stack.enter_async_context(Runner(ports, running_max=settings.tasks_running_max))
        metrics.tasks_running.set_function(lambda: runner.running)
        tasks = TaskService(catalog, runner)
        server = Server(
            _server_options(config),
            tasks,
            runner,
            run_task_input(settings.task_length_max),
            keys,
            limiter,
            {"config": _always, "store": store.check},
            log,
            metrics,
        )
        metrics_port = _serve_metrics(config, metrics, stack)
        recovered = await recover(store, runner, catalog.runtime_of)
        port = await server.start()
        checking = asyncio.create_task(server.readiness.run())
        stack.callback(checking.cancel)
        _announce(config, log, port, metrics_port, recovered)
        yield Service(port, metrics_port, server, log)


def check_parts(config: Config) -> None:
    """Import and look at all that the configuration names, without opening or starting anything.

    Raises:
        ConfigError: tools or agent classes that cannot be had.
    """
    _registry(config)
    _agent_classes(config)


def _announce(config: Config, log: EventLog, port: int, metrics_port: int, recovered: int) -> None:
    """The start line: what runs, where, and on which models."""
    for key in config.models:
        if config.models[key].provider == "scripted":
            why = "no API key is set" if key in config.stand_ins else "configured"
            log.warning("scripted_model", model=key, why=why, answers="from a script, not from a language model")
    log.info(
        "started",
        version=version(),
        environment=config.settings.environment,
        host=config.settings.api_host,
        port=port,
        metrics_port=metrics_port or None,
        config=str(config.path or "embedded"),
        agents=",".join(config.agents),
        tasks_recovered=recovered,
    )


async def _always() -> None:
    """The configuration was loaded, or nothing would run."""


def _server_options(config: Config) -> ServerOptions:
    settings = config.settings
    return ServerOptions(
        host=settings.api_host,
        port=settings.api_port,
        reflection=settings.reflection_enabled,
        drain_delay_s=settings.drain_delay_s,
        drain_grace_s=settings.drain_grace_s,
    )


def _registry(config: Config) -> ToolRegistry:
    """The built-in tools, those of the configured modules and of installed packages."""
    registry = ToolRegistry(BUILTIN_TOOLS)
    problems: list[str] = []
    for index, module in enumerate(config.tool_modules):
        try:
            registry.register_module(module)
        except ConfigError as error:
            problems += [str(config.problem(("tools", "modules", index), problem)) for problem in error.problems]
    try:
        registry.register_entry_points()
    except ConfigError as error:
        problems += error.problems
    problems += [str(problem) for problem in tool_problems(config, registry.names())]
    if problems:
        raise ConfigError(problems)
    return registry


def _agent_classes(config: Config) -> Mapping[str, Agent]:
    """The way of working of each configured agent."""
    agents: dict[str, Agent] = {}
    problems: list[str] = []
    for key, agent in config.agents.items():
        try:
            agents[key] = _agent_class(agent.class_path)
        except (ImportError, AttributeError, TypeError) as error:
            found = f"{agent.class_path!r} is no agent class: {type(error).__name__}: {error}"
            problems.append(str(config.problem(("agents", key, "class"), found)))
    if problems:
        raise ConfigError(problems)
    return agents


def _agent_class(path: str | None) -> Agent:
    if path is None:
        return ToolAgent()
    module, _, name = path.partition(":")
    agent: Agent = getattr(importlib.import_module(module), name)()
    if not callable(getattr(agent, "step", None)):
        raise TypeError("it has no step(state) method")
    return agent


async def _model(config: Config, key: str, model: ModelConfig, stack: AsyncExitStack) -> ModelRuntime:
    """A configured model with its retries."""
    adapter: Model
    if model.provider == "scripted":
        adapter = ScriptedModel(_script(model.script))
    else:
        api_key = config.api_key(key)
        adapter = await stack.enter_async_context(
            OpenAIModel(
                model_id=model.model_id,
                api_key=api_key.get_secret_value() if api_key else "",
                base_url=model.base_url or OPENAI_BASE_URL,
                temperature=model.temperature,
                max_tokens=model.max_tokens,
                total_s=model.timeout.total_s,
                first_token_s=model.timeout.first_token_s,
                idle_s=model.timeout.idle_s,
            )
        )
    retrying = Retrying(
        adapter,
        key,
        RetryBudget(),
        attempts=model.retry.attempts,
        base_delay_s=model.retry.base_delay_s,
        max_delay_s=model.retry.max_delay_s,
    )
    return ModelRuntime(key, retrying, model.max_tokens)


def _script(path: str | None) -> Script:
    if path is None:
        return default_script()
    return Script.parse(Path(path).read_text("utf-8"), path)


def _catalog(
    config: Config, registry: ToolRegistry, models: Mapping[str, ModelRuntime], agents: Mapping[str, Agent]
) -> Catalog:
    configured = [_configured_agent(key, agent, registry, models, agents) for key, agent in config.agents.items()]
    return Catalog(configured, registry, default_agent=config.default_agent)


def _configured_agent(
    key: str,
    agent: AgentConfig,
    registry: ToolRegistry,
    models: Mapping[str, ModelRuntime],
    agents: Mapping[str, Agent],
) -> ConfiguredAgent:
    tools = {name: registry.get(name) for name in agent.tools}
    runtime = AgentRuntime(key, agents[key], models[agent.model], tools, tuple(map(_tool_spec, tools.values())))
    return ConfiguredAgent.of(
        runtime,
        instructions=agent.instructions,
        limits=TaskLimits(
            turns=agent.limits.turns,
            tool_calls=agent.limits.tool_calls,
            parallel_tools=agent.limits.parallel_tools,
        ),
        description=agent.description,
        timeout_s=agent.timeout_s,
        timeout_max_s=agent.timeout_max_s,
    )


def _tool_spec(tool: Tool) -> ToolSpec:
    return ToolSpec(tool.name, tool.description, tool.input_schema_json)


async def _store(path: Path | None, stack: AsyncExitStack) -> Store:
    if path is None:
        return await stack.enter_async_context(MemoryStore())
    return await stack.enter_async_context(SqliteStore(path))


def _rules(limits: tuple[RateLimit, ...]) -> list[Rule]:
    return [
        Rule(
            name=limit.name,
            tenant=limit.match.tenant,
            agent=limit.match.agent,
            model=limit.match.model,
            per=frozenset(limit.per),
            calls_max=limit.max_calls,
            model_calls_max=limit.max_model_calls,
            tokens_max=limit.max_tokens,
            window_s=limit.window_seconds,
        )
        for limit in limits
    ]


def _serve_metrics(config: Config, metrics: Metrics, stack: AsyncExitStack) -> int:
    """Serve the metrics on a port of their own; which, or 0 where they are not wanted."""
    settings = config.settings
    if not settings.metrics_enabled:
        return 0
    try:
        server, thread = prometheus_client.start_http_server(
            settings.metrics_port, addr=settings.api_host, registry=metrics.registry
        )
    except OSError as error:
        address = f"{settings.api_host}:{settings.metrics_port}"
        raise ConfigError([f"cannot serve metrics on {address}: {error.strerror}"]) from error
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server.server_port


def _keys(config: Config, log: EventLog, stack: AsyncExitStack) -> Keys:
    """The known keys. Development without any makes one for this start, and shows it once."""
    settings = config.settings
    always = [default_key(settings.api_key.get_secret_value())] if settings.api_key else []
    if settings.api_keys_file is not None:
        keys = ReloadingKeys(settings.api_keys_file, log, always=always)
        watching = asyncio.create_task(keys.watch())
        stack.callback(watching.cancel)
        return keys
    if not always:
        made = secret.generate(secret.new_public_id())
        sys.stderr.write(f"no API_KEY is set; for this start it is {made}\n")
        always = [default_key(made)]
    return KeyRing(always)

"""The process: start from the configuration, reload, drain, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from agent_service.bootstrap.assemble import ServiceParts, assemble
from agent_service.bootstrap.catalog import CatalogBuilder
from agent_service.bootstrap.doctor.token_limits import unreachable_limits
from agent_service.bootstrap.dump import dump_on_signals
from agent_service.bootstrap.file_watch import watch_file
from agent_service.bootstrap.models import ModelBuilder
from agent_service.bootstrap.parts import (
    auth_failures_limiter,
    callers,
    certificates,
    limiter_rules,
    open_store,
    serve_channelz,
    server_options,
    service_options,
    tenant_budgets,
)
from agent_service.bootstrap.surroundings import long_descriptions
from agent_service.bootstrap.telemetry import open_tracer, serve_metrics, watch_process
from agent_service.config.loader import Config
from agent_service.config.settings import Settings
from agent_service.engine.limit_replay import replay_charges
from agent_service.engine.tenant_budgets import TenantBudgets
from agent_service.errors import ConfigError, OverloadedError
from agent_service.limits.memory import MemoryLimiter
from agent_service.llm.breaker import Circuit, CircuitBreaker
from agent_service.llm.provider_check import ProviderCheck
from agent_service.observe.dumps import About
from agent_service.observe.log import RENDERERS, EventLog, capture_libraries, log_loop_fault, print_traceback
from agent_service.observe.metrics import Metrics
from agent_service.observe.sink import StderrSink
from agent_service.server.app import Server
from agent_service.server.stack import ServerParts
from agent_service.service.requests import run_task_input
from agent_service.service.service import Service
from agent_service.store.base import History
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import Toolsets
from agent_service.version import version


@dataclass(frozen=True, slots=True)
class Process:
    """The running service with the parts that a reload changes."""

    server: Server
    service: Service
    limiter: MemoryLimiter
    budgets: TenantBudgets
    builder: CatalogBuilder
    providers: ProviderCheck
    log: EventLog
    metrics: Metrics
    port: int

    async def reload(self, load: Callable[[], Config]) -> bool:
        """Load the configuration for new tasks. Return whether it is used; an invalid one changes nothing."""
        try:
            config = load()
            catalog = await self.builder.build(config)
        except ConfigError as error:
            self.log.write("ERROR", "config_refused", {"problems": list(error.problems)})
            self.metrics.config_accepted.set(0)
            return False
        self.metrics.config_accepted.set(1)
        self.service.runtimes.catalog = catalog
        _watch(config, self.builder.models, self.providers, self.metrics)
        _watch_waits(config, self.service, self.metrics)
        _note(config, catalog.tools, self.log)
        self.limiter.reconfigure(limiter_rules(config.rate_limits))
        self.budgets.reconfigure(tenant_budgets(config.budgets))
        self.metrics.watch_budgets(self.budgets.used)
        self.log.info("config_reloaded", config=str(config.path or "embedded"), agents=",".join(config.agents))
        return True


async def serve(load: Callable[[], Config]) -> None:
    """Run until SIGTERM or SIGINT, then drain. SIGUSR1 and SIGUSR2 write the state of the process.

    The configuration is reloaded when its file or the tools of a toolset change, and on SIGHUP. A second SIGTERM or
    SIGINT ends the process at once, as safely as a crash.

    Raises:
        ConfigError: the configuration is not valid, or something that it names cannot be loaded.
    """
    stop, hang_up = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, hang_up.set)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # until the handlers are set: by default the signal ends the process
    config = load()
    async with running(config, hang_up.set) as process:
        path, service = config.settings.database_path, process.service
        about = About(os.getpid(), service.worker, process.port, str(path.resolve()) if path else "")
        dump_on_signals(process.log, service.runner.running, about)
        reloading = [asyncio.create_task(_reload_on(hang_up, process, load))]
        if config.path is not None:
            reloading.append(asyncio.create_task(watch_file(config.path, hang_up)))
        await stop.wait()
        for task in reloading:
            task.cancel()
        await process.server.drain()
        process.log.info("stopped")


async def _reload_on(hang_up: asyncio.Event, process: Process, load: Callable[[], Config]) -> None:
    while True:
        await hang_up.wait()
        hang_up.clear()
        try:
            await process.reload(load)
        except Exception as error:  # noqa: BLE001 - the next SIGHUP must still be handled
            process.log.error("reload_fault", error)


@asynccontextmanager
async def running(config: Config, on_tools_change: Callable[[], None]) -> AsyncIterator[Process]:
    """Build everything, start it, and stop it at the end. `on_tools_change` is called when a toolset's tools change.

    Raises:
        ConfigError: something that the configuration names cannot be loaded.
    """
    settings = config.settings
    metrics = Metrics(version(), tenants_max=settings.metrics_tenants_max)
    async with AsyncExitStack() as stack:
        sink = StderrSink()
        stack.callback(sink.close)
        log = EventLog(settings.log_level, RENDERERS[settings.log_format], sink)
        # In development, authors of tools see the traceback; in production an exception's text may contain a secret.
        capture_libraries(log, (lambda _: None) if settings.is_production else print_traceback)
        asyncio.get_running_loop().set_exception_handler(log_loop_fault(log))
        tracer = open_tracer(settings, stack)
        tools = await stack.enter_async_context(ToolRunner(threads_max=settings.tool_threads_max))
        models = ModelBuilder(stack, partial(_log_circuit, log), partial(_log_refused, log))
        builder = CatalogBuilder(models, Toolsets(stack, on_tools_change), tools)
        catalog = await builder.build(config)
        providers = ProviderCheck(counts_outages=settings.readiness_provider)
        _watch(config, builder.models, providers, metrics)
        keys = await callers(settings, log, stack)
        store = await open_store(settings, metrics, stack)
        limiter = MemoryLimiter(limiter_rules(config.rate_limits), on_denied=metrics.limit_denied)
        parts = ServiceParts(
            catalog=catalog,
            keys=keys,
            store=store,
            log=log,
            metrics=metrics,
            limiter=limiter,
            budgets=tenant_budgets(config.budgets),
            tracer=tracer,
            running_max=settings.tasks_running_max,
            options=service_options(settings),
        )
        service = assemble(parts)
        stack.push_async_callback(service.close)
        budgets = service.budgets
        metrics.watch_budgets(budgets.used)
        watch_process(settings, metrics, service, tools, parts.feed, sink, stack)
        _watch_waits(config, service, metrics)
        wire = ServerParts(
            service,
            run_task_input(settings.task_length_max),
            keys,
            limiter,
            {"config": _loaded, "store": store.check, "provider": providers.check, "tools": tools.check},
            log,
            metrics,
            providers.models,
            auth_failures_limiter(settings, metrics),
            certificates(settings, log, metrics, stack),
            tracer,
        )
        server = Server(server_options(settings), wire)
        metrics_port = serve_metrics(settings, metrics, stack)
        channelz_port = await serve_channelz(settings, stack)
        # Bind first: a start that fails must not have run any task, which may cost money.
        listening = await server.bind()
        stack.push_async_callback(server.stop)
        await _replay_limits(store, limiter, log)
        recovered = await _begun(service, settings)
        await server.start()
        for check in (server.readiness.run(), providers.run()):
            stack.callback(asyncio.create_task(check).cancel)
        ports = {
            "port": listening.port,
            "health_port": listening.health_port,
            "metrics_port": metrics_port or None,
            "channelz_port": channelz_port or None,
        }
        _announce(config, catalog.tools, log, ports, recovered)
        yield Process(server, service, limiter, budgets, builder, providers, log, metrics, listening.port)


async def _begun(service: Service, settings: Settings) -> int:
    """Begin the service. Return the number of unfinished tasks in the store.

    Raises:
        ConfigError: the store was opened but cannot be used.
    """
    try:
        return await service.begin()
    except OverloadedError as error:
        raise ConfigError([f"{settings.database_path} cannot be used: {error.__cause__ or error.message}"]) from error


def _watch(config: Config, models: ModelBuilder, providers: ProviderCheck, metrics: Metrics) -> None:
    """Update health and metrics to the current configuration."""
    metrics.name(agents=config.agents, models=config.models, rules=(rule.name for rule in config.rate_limits))
    breakers = {key: upstream.breaker for key, upstream in models.upstreams.items()}
    providers.watch(models.asks, breakers)
    metrics.watch_breakers(
        {
            (key, upstream.provider): partial(_circuit_number, upstream.breaker)
            for key, upstream in models.upstreams.items()
        }
    )


def _watch_waits(config: Config, service: Service, metrics: Metrics) -> None:
    metrics.watch_waits(service.waits.counts([rule.name for rule in config.rate_limits]))


def _circuit_number(breaker: CircuitBreaker) -> float:
    return float(breaker.circuit)


def _log_circuit(log: EventLog, provider: str, model_id: str, circuit: Circuit) -> None:
    level = "INFO" if circuit is Circuit.CLOSED else "WARNING"
    log.write(level, "model_circuit", {"provider": provider, "model_id": model_id, "circuit": circuit.name.lower()})


def _log_refused(log: EventLog, model: str, parameter: str, problem: str) -> None:
    log.warning("model_setting_refused", model=model, parameter=parameter, problem=problem)


async def _replay_limits(history: History, limiter: MemoryLimiter, log: EventLog) -> None:
    """Restore the charges of earlier and of other processes that the windows still cover."""
    began = time.perf_counter()
    tasks = await replay_charges(history, limiter.replay, window_s=limiter.window_s)
    log.info("limits_replayed", tasks=tasks, duration_ms=round((time.perf_counter() - began) * 1000, 1))


async def _loaded() -> None:
    """Check the configuration: it is always loaded, because the start requires it and a refused one changes nothing."""


def _note(config: Config, tools: ToolRegistry, log: EventLog) -> None:
    """Log the flaws of the configuration that the service runs with nevertheless."""
    unreachable = (f"{text}; {advice}" for text, advice in unreachable_limits(config))
    for notice in (*unreachable, *map(str, config.notices), *long_descriptions(config, tools)):
        log.warning("configuration_notice", notice=notice)


def _announce(
    config: Config, tools: ToolRegistry, log: EventLog, ports: Mapping[str, int | None], recovered: int
) -> None:
    """Log the start: version, addresses, agents and scripted models."""
    _note(config, tools, log)
    for key, model in config.models.items():
        if model.provider == "scripted":
            why = "no API key is set" if key in config.stand_ins else "configured"
            log.warning("scripted_model", model=key, why=why, answers="from a script, not from a language model")
    log.info(
        "started",
        version=version(),
        environment=config.settings.environment,
        host=config.settings.api_host,
        **ports,
        tls=config.settings.tls_cert_file is not None,
        config=str(config.path or "embedded"),
        agents=",".join(config.agents),
        tasks_recovered=recovered,
    )

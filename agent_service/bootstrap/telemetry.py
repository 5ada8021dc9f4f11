"""Metrics that are read from the parts of the process, their server, and traces."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

from agent_service.config.settings import Settings, variables
from agent_service.errors import ConfigError
from agent_service.feed.memory import MemoryFeed
from agent_service.observe.loop_lag import LoopLag
from agent_service.observe.metrics import Metrics
from agent_service.observe.scraping import MetricsServer
from agent_service.observe.sink import StderrSink
from agent_service.observe.trace import NO_TRACER, Sampling, Tracer
from agent_service.service.service import Service
from agent_service.tools.runner import ToolRunner
from agent_service.version import version

# SQLite's main file, its log and its shared memory.
STORE_SUFFIXES = ("", "-wal", "-shm")


def watch_process(
    settings: Settings,
    metrics: Metrics,
    service: Service,
    tools: ToolRunner,
    feed: MemoryFeed,
    sink: StderrSink,
    stack: AsyncExitStack,
) -> None:
    """Let the metrics read the current values of these parts at each scrape, outside the event loop's thread."""
    lag = LoopLag(metrics.loop_lag)
    stack.callback(asyncio.create_task(lag.run()).cancel)
    metrics.loop_late.set_function(lag.late_s)
    metrics.tasks_running.set_function(lambda: service.running)
    metrics.tasks_running_max.set(settings.tasks_running_max)
    metrics.tasks_queued.set_function(lambda: service.queued)
    threads = tools.threads
    metrics.watch_tool_threads("working", lambda: threads.working, threads.threads_max)
    metrics.watch_tool_threads("abandoned", lambda: threads.abandoned, threads.abandoned_max)
    metrics.watchers.set_function(feed.watchers)
    metrics.log_dropped.set_function(lambda: sink.dropped)
    path = settings.database_path
    if path is not None:
        metrics.store_bytes.set_function(lambda: _bytes_of(path))
        metrics.store_free_bytes.set_function(lambda: _free_of(path))


def serve_metrics(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> int:
    """Serve the metrics on a port of their own. Return the port; 0 if metrics are disabled.

    Raises:
        ConfigError: the address cannot be bound.
    """
    if not settings.metrics_enabled:
        return 0
    host = settings.metrics_host or settings.api_host
    try:
        server = MetricsServer(metrics.registry, host, settings.metrics_port)
    except OSError as error:
        address = f"{host}:{settings.metrics_port}"
        raise ConfigError([f"cannot serve metrics on {address}: {error.strerror}"]) from error
    stack.callback(server.close)
    return server.port


def open_tracer(settings: Settings, stack: AsyncExitStack) -> Tracer:
    """Return the tracer. Remaining spans are sent when the stack is closed.

    Raises:
        ConfigError: traces are enabled, and their packages are missing or refuse their own variables.
    """
    if settings.otel_traces_exporter == "none" or settings.otel_traces_sampler == "always_off":
        return NO_TRACER
    try:
        # Imported here: it takes 0.2 s, which only traced services pay.
        from agent_service.observe import otel
    except ImportError as error:
        problem = f"OTEL_TRACES_EXPORTER=otlp needs {error.name}: pip install 'agent-service[otlp]'"
        raise ConfigError([problem]) from error
    headers = settings.otel_exporter_otlp_headers
    try:
        tracer = otel.OtelTracer(
            otel.otlp_exporter(settings.otel_exporter_otlp_endpoint, headers.get_secret_value() if headers else ""),
            sampling(settings),
            service=settings.otel_service_name,
            version=version(),
            shows_content=settings.traces_content,
        )
    except Exception as error:
        # The SDK reads variables of its own, and raises if it cannot parse one.
        own = variables()
        names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_") and name not in own))
        problem = f"OpenTelemetry cannot be set up ({type(error).__name__}): check {names or 'its packages'}"
        raise ConfigError([problem]) from error
    stack.push_async_callback(asyncio.to_thread, tracer.close)
    return tracer


def sampling(settings: Settings) -> Sampling:
    """Return the sampling for OpenTelemetry's name of a sampler."""
    name = settings.otel_traces_sampler
    ratios = {"always_on": 1.0, "always_off": 0.0, "traceidratio": settings.otel_traces_sampler_arg}
    return Sampling(ratios[name.removeprefix("parentbased_")], follows_parent=name.startswith("parentbased_"))


def _free_of(store: Path) -> float:
    try:
        return shutil.disk_usage(store.parent).free
    except OSError:  # the folder is missing; the other metrics must still be readable
        return math.nan


def _bytes_of(store: Path) -> int:
    total = 0
    for suffix in STORE_SUFFIXES:
        try:
            total += store.with_name(store.name + suffix).stat().st_size
        except FileNotFoundError:
            continue
    return total

"""What the process tells of itself: the numbers that are read where they stand, and where they are served."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from agent_service.config.settings import Settings
from agent_service.errors import ConfigError
from agent_service.feed.memory import MemoryFeed
from agent_service.observe.loop_lag import LoopLag
from agent_service.observe.metrics import Metrics
from agent_service.observe.scraping import MetricsServer
from agent_service.observe.sink import StderrSink
from agent_service.service.service import Service

# SQLite's own file and what stands beside it.
STORE_SUFFIXES = ("", "-wal", "-shm")


def watch_process(
    settings: Settings, metrics: Metrics, service: Service, feed: MemoryFeed, sink: StderrSink, stack: AsyncExitStack
) -> None:
    """Have the metrics show what these have, whenever they are read: in a thread that is not the loop's."""
    lag = LoopLag(metrics.loop_lag)
    stack.callback(asyncio.create_task(lag.run()).cancel)
    metrics.loop_late.set_function(lag.late_s)
    metrics.tasks_running.set_function(lambda: service.running)
    metrics.tasks_running_max.set(settings.tasks_running_max)
    metrics.tasks_queued.set_function(lambda: service.queued)
    metrics.watchers.set_function(feed.watchers)
    metrics.log_dropped.set_function(lambda: sink.dropped)
    path = settings.database_path
    if path is not None:
        metrics.store_bytes.set_function(lambda: _bytes_of(path))


def serve_metrics(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> int:
    """Serve the metrics on a port of their own; which, or 0 where they are not wanted.

    Raises:
        ConfigError: the address cannot be had.
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


def _bytes_of(store: Path) -> int:
    total = 0
    for suffix in STORE_SUFFIXES:
        try:
            total += store.with_name(store.name + suffix).stat().st_size
        except FileNotFoundError:
            continue
    return total

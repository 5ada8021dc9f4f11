"""The metrics, in Prometheus' conventions. Children are cached: a look-up by labels costs more than the count."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

RPC_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Every metric of the service, in a registry of its own."""

    def __init__(self, version: str) -> None:
        registry = self.registry = CollectorRegistry()
        build = Gauge("agent_service_build_info", "The running version.", ["version", "python"], registry=registry)
        build.labels(version, platform.python_version()).set(1)
        self._started = Counter(
            "grpc_server_started_total", "RPCs begun.", ["grpc_service", "grpc_method"], registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled_total",
            "RPCs ended, by status code.",
            ["grpc_service", "grpc_method", "grpc_code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "How long RPCs took.",
            ["grpc_service", "grpc_method"],
            buckets=RPC_SECONDS,
            registry=registry,
        )
        self._tasks = Counter(
            "agent_service_tasks_total", "Tasks ended.", ["kind", "state", "reason"], registry=registry
        )
        self.tasks_running = Gauge("agent_service_tasks_running", "Tasks that run here now.", registry=registry)
        self._tokens = Counter(
            "agent_service_tokens_total", "Tokens used, by model.", ["model", "direction"], registry=registry
        )
        self._ready = Gauge(
            "agent_service_ready", "Whether a readiness check passes (1) or not (0).", ["check"], registry=registry
        )
        self._requests = Counter(
            "agent_service_model_requests_total",
            "Requests to model providers ended, by model and outcome: `reply`, or the reason why there was none.",
            ["model", "outcome"],
            registry=registry,
        )
        self._breakers = Gauge(
            "agent_service_model_breaker",
            "The circuit breaker of a model: 0 closed, 1 half open (one request is let through), 2 open.",
            ["model", "provider"],
            registry=registry,
        )
        self._refused = Counter(
            "agent_service_calls_refused_total",
            "Calls refused because too many were under way, by the bound that they met.",
            ["rule"],
            registry=registry,
        )
        self._under_way = Gauge(
            "agent_service_calls_under_way",
            "Calls under way, by the pool that they are in.",
            ["pool"],
            registry=registry,
        )
        self.rpc_started = cache(self._rpc_started)
        self.rpc_handled = cache(self._rpc_handled)
        self.rpc_seconds = cache(self._rpc_seconds)
        self.tokens = cache(self._tokens.labels)
        self.model_requests = cache(self._requests.labels)
        self.tasks_ended = cache(self._tasks.labels)
        self.ready = cache(self._ready.labels)
        self.calls_refused = cache(self._refused.labels)

    def watch_certificate(self, not_after: Callable[[], float]) -> None:
        """Show when the server's certificate ends, in seconds since 1970. Asked at every scrape."""
        name, text = "agent_service_tls_not_after_seconds", "When the certificate of this server ends, since 1970."
        Gauge(name, text, registry=self.registry).set_function(not_after)

    def watch_calls(self, pool: str, calls: Callable[[], float]) -> None:
        """Show how many calls a pool has under way; asked whenever the metrics are read."""
        self._under_way.labels(pool).set_function(calls)

    def watch_breakers(self, states: Mapping[tuple[str, str], Callable[[], float]]) -> None:
        """Show these breakers, by model and provider, and no others any more; asked whenever the metrics are read."""
        self._breakers.clear()
        for labels, state in states.items():
            self._breakers.labels(*labels).set_function(state)

    def _rpc_started(self, method: str) -> Counter:
        return self._started.labels(*split_method(method))

    def _rpc_handled(self, method: str, code: str) -> Counter:
        return self._handled.labels(*split_method(method), code)

    def _rpc_seconds(self, method: str) -> Histogram:
        return self._seconds.labels(*split_method(method))


def split_method(method: str) -> tuple[str, str]:
    """`("agent_service.v1.AgentService", "RunTask")` of `/agent_service.v1.AgentService/RunTask`."""
    service, _, name = method.strip("/").rpartition("/")
    return service, name

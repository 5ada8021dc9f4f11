"""The metrics, in Prometheus' conventions; docs/operations.md explains each one.

Every label has few values: methods, agents, models, tools and rules come from the configuration, reasons and states
from the contract, and only the first tenants are named.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Gauge, GCCollector, ProcessCollector

from agent_service.observe.instruments import Count, Counts, Distribution, Distributions

RPC_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
TASK_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
MODEL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300)
TOOL_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
COMMIT_APPENDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

OTHER = "other"
UNKNOWN = "unknown"


class Metrics:
    """All metrics of the service, in a separate registry. The first `tenants_max` tenants have separate series, all
    others share one.
    """

    def __init__(self, version: str, *, tenants_max: int = 20) -> None:
        self.registry = CollectorRegistry()
        self._tenants_max = tenants_max
        self._tenants: set[str] = set()
        self._ended_by_method: dict[tuple[str, str], list[Count]] = {}
        self._describe_process(version)
        self._describe_calls()
        self._describe_tasks()
        self._describe_models()
        self._describe_tools_and_limits()
        self._describe_journal()
        self.rpc_started = cache(self._rpc_started)
        self.rpc_handled = cache(self._rpc_handled)
        self.rpc_seconds = cache(self._rpc_seconds)
        self.ready = cache(self._ready.labels)

    def _describe_process(self, version: str) -> None:
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = self._gauge("build_info", "The running version: always 1.", ["version", "python"])
        build.labels(version, platform.python_version()).set(1)
        self._ready = self._gauge("ready", "Whether a readiness check passes (1) or not (0).", ["check"])
        self.config_accepted = self._gauge(
            "config_accepted", "Whether the configuration was valid when it was last read (1), or rejected (0)."
        )
        self.config_accepted.set(1)
        self.loop_lag = self._distributions(
            "loop_lag_seconds", "Delay of the event loop, measured ten times a second.", [], LAG_SECONDS
        )()
        self._certificate_ends = self._gauge(
            "tls_not_after_seconds", "Expiry of this server's certificate, in Unix time; 0 without TLS."
        )
        self.loop_late = self._gauge("loop_late_seconds", "Current delay of the event loop.")
        self.log_dropped = self._gauge(
            "log_lines_dropped", "Lines of the log that could not be written since the start."
        )

    def _describe_calls(self) -> None:
        method = ["grpc_service", "grpc_method"]
        registry = self.registry
        self._started = Counts("grpc_server_started_total", "RPCs begun.", method, registry)
        self._handled = Counts(
            "grpc_server_handled_total", "RPCs ended, by status code.", [*method, "grpc_code"], registry
        )
        self._seconds = Distributions(
            "grpc_server_handling_seconds", "Duration of RPCs.", method, registry, bounds=RPC_SECONDS
        )
        self.rpc_errors = self._counts("rpc_errors_total", "RPCs that ended with an error, by its reason.", "reason")
        self.rpc_errors("INTERNAL")
        self._open = self._gauge("rpcs_open", "RPCs that have begun and not ended, streams included.", method)
        self.watchers = self._gauge("watchers", "Open streams that follow a task.")
        self.calls_refused = self._counts(
            "calls_refused_total", "Calls refused because too many were open, by the bound that was reached.", "rule"
        )
        self._under_way = self._gauge("calls_under_way", "Open calls, by their pool.", ["pool"])

    def _describe_tasks(self) -> None:
        self.tasks_ended = self._counts(
            "tasks_total",
            "Tasks ended, by the reason of a failure or the cause of a cancel.",
            "kind",
            "state",
            "reason",
        )
        self.task_seconds = self._distributions(
            "task_seconds", "From a task's submission to its end.", ["agent", "state"], TASK_SECONDS
        )
        self.tasks_running = self._gauge("tasks_running", "Tasks that run in this process.")
        self.tasks_running_max = self._gauge(
            "tasks_running_max", "The maximum number of tasks that run in this process."
        )
        self.tasks_queued = self._gauge("tasks_queued", "Tasks in the queue of this process.")
        self.queue_seconds = self._distributions(
            "task_queue_seconds", "Waiting time of tasks in the queue.", [], TASK_SECONDS
        )()
        self.tasks_waiting = self._gauge("tasks_waiting_for_input", "Tasks of the store that wait for input.")
        self._waits = self._gauge(
            "tasks_waiting",
            "Tasks of this process that wait, by the cause of the wait; for a limit with its rule.",
            ["cause", "rule"],
        )
        self.inputs_asked = self._counts("task_inputs_total", "Inputs that tasks have begun to wait for.", "agent")
        self.attempts_left = self._counts(
            "task_attempts_left_total",
            "Attempts that ended before their task: by DRAIN, or LOST because their process died.",
            "cause",
        )
        for cause in ("DRAIN", "LOST"):
            self.attempts_left(cause)
        self._tenant_tasks = self._counts("tenant_tasks_total", "Tasks ended, by tenant.", "tenant", "state")

    def _describe_models(self) -> None:
        self.model_requests = self._counts(
            "model_requests_total",
            "Requests to model providers ended, by outcome: `reply`, or the reason of the error.",
            "model",
            "outcome",
        )
        self.model_retries = self._counts(
            "model_retries_total",
            "Requests that repeat a failed one, fallbacks included, by the model that was called.",
            "model",
        )
        self.model_seconds = self._distributions(
            "model_request_seconds", "Duration of requests to model providers.", ["model"], MODEL_SECONDS
        )
        self.first_token_seconds = self._distributions(
            "model_first_token_seconds", "From a request to the first text of its reply.", ["model"], MODEL_SECONDS
        )
        self.tokens = self._counts("tokens_total", "Tokens used, by model.", "model", "direction")
        self.cost = self._counts("cost_total", "Cost of models, in the currency of the prices.", "model")
        self._tenant_tokens = self._counts("tenant_tokens_total", "Tokens used, by tenant.", "tenant")
        self._tenant_cost = self._counts("tenant_cost_total", "Cost of models, by tenant.", "tenant")
        self._breakers = self._gauge(
            "model_breaker",
            "The circuit breaker of a model: 0 closed, 1 half open (it admits one request), 2 open.",
            ["model", "provider"],
        )

    def _describe_tools_and_limits(self) -> None:
        self.tool_calls = self._counts(
            "tool_calls_total", "Tool calls ended, by outcome: `result`, or the reason of the error.", "tool", "outcome"
        )
        self.tool_seconds = self._distributions("tool_seconds", "Running time of tools.", ["tool"], TOOL_SECONDS)
        threads = "Threads of sync tools: working, or occupied by an abandoned call."
        self._tool_threads = self._gauge("tool_threads", threads, ["state"])
        self._tool_threads_max = self._gauge("tool_threads_max", "The maximum number of threads in a state.", ["state"])
        self._budgets = self._gauge(
            "budget_used_ratio", "The used part of a budget, for the tenant that has used most of it.", ["budget"]
        )
        self.limit_denials = self._counts(
            "limit_denials_total", "Charges refused by a rate limit, by rule; a waiting task tries again.", "rule"
        )

    def _describe_journal(self) -> None:
        self.commit_appends = self._distributions(
            "journal_commit_appends", "The number of appends in a commit.", [], COMMIT_APPENDS
        )()
        self.commit_seconds = self._distributions(
            "journal_commit_seconds", "Duration of commits, including their sync to disk.", [], COMMIT_SECONDS
        )()
        self.store_bytes = self._gauge("store_bytes", "The size of the store's files.")
        self.store_free_bytes = self._gauge("store_free_bytes", "The free space on the store's file system.")

    def name(self, *, agents: Iterable[str], models: Iterable[str], rules: Iterable[str]) -> None:
        """Create these series at 0: a series that appears with its first count shows no increase."""
        for agent in agents:
            self.inputs_asked(agent)
        for model in models:
            self.model_retries(model)
        for rule in rules:
            self.limit_denials(rule)

    def watch_certificate(self, not_after: Callable[[], float]) -> None:
        """Export the expiry of the server's certificate, in Unix time; read at every scrape."""
        self._certificate_ends.set_function(not_after)

    def watch_calls(self, pool: str, calls: Callable[[], float]) -> None:
        """Export the number of open calls of a pool; read at every scrape."""
        self._under_way.labels(pool).set_function(calls)

    def watch_tool_threads(self, state: str, threads: Callable[[], float], threads_max: int) -> None:
        """Export the number of tool threads in a state; read at every scrape."""
        self._tool_threads.labels(state).set_function(threads)
        self._tool_threads_max.labels(state).set(threads_max)

    def watch_waits(self, counts: Mapping[tuple[str, str], Callable[[], float]]) -> None:
        """Replace the exported numbers of waiting tasks, by cause and rule; read at every scrape."""
        self._waits.clear()
        for labels, count in counts.items():
            self._waits.labels(*labels).set_function(count)

    def watch_budgets(self, used: Mapping[str, Callable[[], float]]) -> None:
        """Replace the exported budgets with their used parts; read at every scrape."""
        self._budgets.clear()
        for budget, share in used.items():
            self._budgets.labels(budget).set_function(share)

    def watch_breakers(self, states: Mapping[tuple[str, str], Callable[[], float]]) -> None:
        """Replace the exported breakers, by model and provider; read at every scrape."""
        self._breakers.clear()
        for labels, state in states.items():
            self._breakers.labels(*labels).set_function(state)

    def limit_denied(self, rule: str) -> None:
        """Count a charge that a rule refused."""
        self.limit_denials(rule).inc()

    def committed(self, appends: int, seconds: float) -> None:
        """Record a commit of the store's writer thread."""
        self.commit_appends.observe(appends)
        self.commit_seconds.observe(seconds)

    def tenant_used(self, tenant: str, tokens: int, cost: float) -> None:
        """Record the usage of a request to a model."""
        name = self.tenant(tenant)
        self._tenant_tokens(name).inc(tokens)
        self._tenant_cost(name).inc(cost)

    def tenant_task_ended(self, tenant: str, state: str) -> None:
        """Count a task that has ended."""
        self._tenant_tasks(self.tenant(tenant), state).inc()

    def tenant(self, tenant: str) -> str:
        """Return the label of a tenant."""
        if tenant in self._tenants:
            return tenant
        if len(self._tenants) >= self._tenants_max:
            return OTHER
        self._tenants.add(tenant)
        return tenant

    def _rpc_started(self, method: str) -> Count:
        names = split_method(method)
        started = self._started(*names)
        ended = self._ended_by_method.setdefault(names, [])
        self._open.labels(*names).set_function(lambda: started.value - sum(each.value for each in list(ended)))
        return started

    def _rpc_handled(self, method: str, code: str) -> Count:
        names = split_method(method)
        handled = self._handled(*names, code)
        self._ended_by_method.setdefault(names, []).append(handled)
        return handled

    def _rpc_seconds(self, method: str) -> Distribution:
        return self._seconds(*split_method(method))

    def _gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"agent_service_{name}", documentation, labels, registry=self.registry)

    def _counts(self, name: str, documentation: str, *labels: str) -> Callable[..., Count]:
        """Return a cached function from labels to their counter: it is called for every event."""
        return cache(Counts(f"agent_service_{name}", documentation, labels, self.registry))

    def _distributions(
        self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> Callable[..., Distribution]:
        return cache(Distributions(f"agent_service_{name}", documentation, labels, self.registry, bounds=bounds))


def split_method(method: str) -> tuple[str, str]:
    """Return `("agent_service.v1.AgentService", "RunTask")` for `/agent_service.v1.AgentService/RunTask`."""
    service, _, name = method.strip("/").rpartition("/")
    return service, name

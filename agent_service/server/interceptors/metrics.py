"""Counts and times every RPC."""

from __future__ import annotations

from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import current_span
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor


class RpcMetrics(Interceptor[None]):
    """Methods of the server have their own labels; all paths that callers invent share one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_call(self, call: Call) -> None:
        self._metrics.rpc_started(call.method.path).inc()

    def on_end(self, token: None, call: Call) -> None:
        self._metrics.rpc_handled(call.method.path, call.code_name).inc()
        if call.error is not None:
            self._metrics.rpc_errors(call.error.reason_name).inc()
        self._metrics.rpc_seconds(call.method.path).observe(call.took_s, current_span().exemplar)

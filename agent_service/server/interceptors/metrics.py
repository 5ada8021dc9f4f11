"""Counts and times every RPC."""

from __future__ import annotations

import time

from agent_service.observe.metrics import Metrics
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor


class RpcMetrics(Interceptor):
    """Methods that the server has get labels of their own; whatever else callers make up shares one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_begin(self, call: Call) -> None:
        self._metrics.rpc_started(call.name).inc()

    def on_end(self, call: Call) -> None:
        self._metrics.rpc_handled(call.name, call.code.name).inc()
        if call.error is not None:
            self._metrics.rpc_errors(call.error.reason_name).inc()
        self._metrics.rpc_seconds(call.name).observe(time.perf_counter() - call.began, call.span.exemplar)

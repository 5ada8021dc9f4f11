"""Counts and times every RPC."""

from __future__ import annotations

import time
from collections.abc import Collection

from agent_service.observe.metrics import Metrics
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor

UNKNOWN_METHOD = "unknown/unknown"


class RpcMetrics(Interceptor):
    """`known_methods` get labels of their own; whatever else callers make up shares one."""

    def __init__(self, metrics: Metrics, known_methods: Collection[str]) -> None:
        self._metrics = metrics
        self._known = frozenset(known_methods)

    async def on_call(self, call: Call) -> None:
        self._metrics.rpc_started(self._label(call)).inc()

    def on_end(self, call: Call) -> None:
        method = self._label(call)
        self._metrics.rpc_handled(method, call.code.name).inc()
        self._metrics.rpc_seconds(method).observe(time.perf_counter() - call.began)

    def _label(self, call: Call) -> str:
        return call.method if call.method in self._known else UNKNOWN_METHOD

"""Creates a span for every call of an authenticated caller: in the caller's trace, or in a new one.

Calls without a valid key get no span: otherwise anyone could make the server record and export arbitrary data. Such
calls are in the log and in the metrics. Health and reflection are not traced.
"""

from __future__ import annotations

import grpc

from agent_service.observe import semconv
from agent_service.observe.trace import NO_SPAN, Span, Tracer, set_current_span
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor

TRACEPARENT = "traceparent"
# Statuses that are errors of the server by the semantic conventions.
FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Tracing(Interceptor[Span]):
    """Begins a span, which is the current span during the call, and ends it with the outcome of the call."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def on_call(self, call: Call) -> Span:
        if call.principal is None:
            return NO_SPAN
        name = call.method.path.removeprefix("/")
        attributes = {semconv.RPC_SYSTEM: "grpc", semconv.RPC_METHOD: name, semconv.TENANT: call.principal.tenant}
        span = self._tracer.call(name, call.metadata.get(TRACEPARENT, ""), attributes)
        set_current_span(span)
        return span

    def on_end(self, token: Span, call: Call) -> None:
        if not token.is_recorded:
            return
        token.set({semconv.RPC_STATUS: call.code_name, semconv.REQUEST_ID: call.request_id})
        if call.task_id:
            token.set({semconv.TASK_ID: call.task_id})
        reason = call.error.reason_name if call.error else call.code_name
        token.end(reason if call.code in FAULTS else "")

"""Spans recorded by OpenTelemetry and sent by OTLP over HTTP. The extra `otlp` has the packages.

The sampling decision is made here rather than by the SDK, which makes a span of every call first: an unsampled span is
never begun. The ratio is applied to the trace's id, as the SDK does, so that services agree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.re import parse_env_headers

from agent_service.observe import trace
from agent_service.observe.semconv import ERROR_TYPE
from agent_service.observe.trace import NO_SPAN, Attributes, Kind, PassedOn, Sampling, Span, TraceContext

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
KINDS = {Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT, Kind.INTERNAL: SpanKind.INTERNAL}
# The time for sending the remaining spans at the end.
CLOSE_S = 3.0
# An empty context: the SDK must not take a span of other code as the parent.
NOTHING = Context()


class OtelTracer:
    """Records sampled spans with the SDK and passes them to `exporter` in a thread of the SDK, which drops spans that
    the exporter cannot take.
    """

    def __init__(
        self, exporter: SpanExporter, sampling: Sampling, *, service: str, version: str, shows_content: bool
    ) -> None:
        self.shows_content = shows_content
        self._sampling = sampling
        resource = Resource.create({"service.name": service, "service.version": version})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("agent_service", version)

    def call(self, name: str, traceparent: str, attributes: Attributes) -> Span:
        """See `Tracer`."""
        parent = trace.parse(traceparent) if traceparent else None
        if not self._sampling.takes(parent):
            return NO_SPAN if parent is None else PassedOn(parent)
        return OtelSpan.begin(self._tracer, _context(parent), name, Kind.SERVER, attributes)

    def within(self, traceparent: str, name: str, attributes: Attributes) -> Span:
        """See `Tracer`."""
        parent = trace.parse(traceparent) if traceparent else None
        if parent is None:
            return NO_SPAN
        if not parent.is_sampled:
            return PassedOn(parent)
        return OtelSpan.begin(self._tracer, _context(parent), name, Kind.INTERNAL, attributes)

    def close(self) -> None:
        """Send the remaining spans. Blocks for CLOSE_S at most: the SDK itself would try for half a minute."""
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class OtelSpan(Span):
    """A span that is recorded."""

    is_recorded = True

    def __init__(self, tracer: otel.Tracer, span: otel.Span) -> None:
        self._tracer = tracer
        self._span = span
        context = span.get_span_context()
        trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        self.ids = self.exemplar = {"trace_id": trace_id, "span_id": span_id}
        self.traceparent = trace.traceparent_of(trace_id, span_id, is_sampled=True)

    @staticmethod
    def begin(tracer: otel.Tracer, parent: Context, name: str, kind: Kind, attributes: Attributes) -> OtelSpan:
        return OtelSpan(tracer, tracer.start_span(name, context=parent, kind=KINDS[kind], attributes=attributes))

    def child(self, name: str, kind: Kind, attributes: Attributes) -> Span:
        return self.begin(self._tracer, otel.set_span_in_context(self._span, NOTHING), name, kind, attributes)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def link(self, traceparent: str) -> None:
        other = trace.parse(traceparent)
        if other is not None and other.traceparent != self.traceparent:
            self._span.add_link(_span_context(other))

    def end(self, error: str = "") -> None:
        if error:
            self._span.set_attribute(ERROR_TYPE, error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    @contextmanager
    def active(self) -> Iterator[None]:
        before = trace.set_current_span(self)
        token = otel_context.attach(otel.set_span_in_context(self._span))
        try:
            yield
        finally:
            otel_context.detach(token)
            trace.reset_current_span(before)


def otlp_exporter(endpoint: str, headers: str) -> SpanExporter:
    """Return an exporter to a collector at this URL; `headers` have the format of OTEL_EXPORTER_OTLP_HEADERS. The SDK
    reads its other settings from its own variables.
    """
    # It logs every try as a warning, and lost spans once per batch as an error.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    return OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces",
        headers=parse_env_headers(headers, liberal=True) if headers else None,
    )


def _context(parent: TraceContext | None) -> Context:
    return NOTHING if parent is None else otel.set_span_in_context(NonRecordingSpan(_span_context(parent)), NOTHING)


def _span_context(context: TraceContext) -> SpanContext:
    flags = SAMPLED if context.is_sampled else TraceFlags()
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=flags)

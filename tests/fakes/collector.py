"""An OpenTelemetry collector on a loopback socket: keeps the spans that it is sent by OTLP over HTTP.

async with FakeCollector() as collector:
    ...  # a server with OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint
    chat = await collector.span("chat fake-1")
"""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True, slots=True)
class SentSpan:
    """A span as it was sent. Ids are in lower-case hex; `parent_id` is empty where there is none."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    is_error: bool
    resource: dict[str, Any]


@dataclass(slots=True)
class FakeCollector:
    """The collector. `headers` are those of the last request."""

    spans: list[SentSpan] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    _server: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> FakeCollector:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def span(self, name: str, count: int = 1) -> SentSpan:
        """The span of that name, waiting until there are so many of it; the last one."""
        async with self._grown:
            await self._grown.wait_for(lambda: len(self.named(name)) >= count)
        return self.named(name)[-1]

    def named(self, name: str) -> list[SentSpan]:
        return [span for span in self.spans if span.name == name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await _head(reader):
                body = await reader.readexactly(int(head["content-length"]))
                if head.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                self.headers = head
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
                async with self._grown:
                    self.spans += _spans(ExportTraceServiceRequest.FromString(body))
                    self._grown.notify_all()
        finally:
            writer.close()


async def _head(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers of the next request; none if the client has gone."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return {}
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}


def _spans(request: ExportTraceServiceRequest) -> list[SentSpan]:
    return [
        SentSpan(
            name=span.name,
            kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes={each.key: _value(each.value) for each in span.attributes},
            links=tuple(link.span_id.hex() for link in span.links),
            is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
            resource={each.key: _value(each.value) for each in resource.resource.attributes},
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _value(value: AnyValue) -> Any:
    if value.HasField("array_value"):
        return [_value(each) for each in value.array_value.values]
    return getattr(value, str(value.WhichOneof("value")))

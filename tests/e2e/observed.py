"""One task with two tools and one retry, run by a server process for a caller who traces, as telemetry shows it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc import aio

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_pb2 import Task
from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.fakes.collector import FakeCollector, SentSpan
from tests.fakes.provider import FakeProvider, Reply, finish, status, stream, text, tool_call, usage

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_SPAN_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CALLER_SPAN_ID}-01"
SECRET_WORD = "xylophone"

CONFIG = """
models:
  default:
    provider: openai
    model_id: fake-1
    base_url: {base_url}
    price: {{input: 1, output: 2}}
    retry: {{attempts: 3, base_delay_s: 0.01, max_delay_s: 0.02}}
agents:
  assistant: {{model: default, tools: [calculator, echo], timeout_s: 20}}
rate_limits:
  - {{name: agents-calls, match: {{agent: assistant}}, max_calls: 1000}}
budgets:
  - {{name: monthly, max_tokens: 1000000}}
"""


def with_two_tools_and_one_retry() -> Sequence[Reply]:
    """What the provider answers."""
    return (
        status(503),
        stream(
            tool_call(0, "call_a", "calculator", '{"expression": "2 * 21"}'),
            tool_call(1, "call_b", "echo", f'{{"text": "{SECRET_WORD}"}}'),
            finish("tool_calls"),
            usage(),
        ),
        stream(text("It is "), text("42."), finish(), usage()),
    )


@dataclass(frozen=True)
class Recorded:
    """All that there was to see of it, with the metrics in both of their formats."""

    task: Task
    spans: list[SentSpan]
    log: list[dict[str, Any]]
    metrics: str
    openmetrics: str
    provider_headers: list[Mapping[str, str]]
    collector_headers: Mapping[str, str]

    def span(self, name: str) -> SentSpan:
        """The only one of that name."""
        (span,) = self.named(name)
        return span

    def named(self, name: str) -> list[SentSpan]:
        return [span for span in self.spans if span.name == name]


@dataclass
class Observed:
    """What there is to see. `task` is as it ended."""

    server: ServerProcess
    provider: FakeProvider
    collector: FakeCollector
    channel: aio.Channel
    task: Task

    @property
    def stub(self) -> Any:
        return AgentServiceStub(self.channel)

    async def stop(self) -> None:
        """With all spans sent."""
        self.server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await self.server.process.wait() == 0
        await self.server.logged("stopped")


@asynccontextmanager
async def observed(directory: Path, **settings: str) -> AsyncIterator[Observed]:
    """Run the task; the server still runs."""
    async with FakeProvider() as provider, FakeCollector() as collector:
        provider.will(*with_two_tools_and_one_retry())
        (directory / "config.yaml").write_text(CONFIG.format(base_url=provider.base_url))
        environment = {
            "LLM_PROVIDER": "",
            "OPENAI_API_KEY": "provider-key-for-tests",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=it%20is%20me",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        async with (
            server_process(directory, **(environment | settings)) as server,
            aio.insecure_channel(server.target, options=(("grpc.enable_http_proxy", 0),)) as channel,
        ):
            request = pb.RunTaskRequest(task=f"What is 2 times 21? Say {SECRET_WORD} too.")
            response = await AgentServiceStub(channel).RunTask(request, metadata=metadata())
            yield Observed(server, provider, collector, channel, response.task)


async def record(directory: Path, **settings: str) -> Recorded:
    """Run the task and stop the server."""
    async with observed(directory, **settings) as seen:
        metrics, openmetrics = [await seen.server.metrics(accept) for accept in ("*/*", "application/openmetrics-text")]
        await seen.stop()
    headers = [request.headers for request in seen.provider.requests]
    return Recorded(
        seen.task, seen.collector.spans, seen.server.log, metrics, openmetrics, headers, seen.collector.headers
    )


def metadata(traceparent: str = TRACEPARENT) -> tuple[tuple[str, str], ...]:
    """A caller's key and trace context."""
    return (("x-api-key", KEY), ("traceparent", traceparent))

"""Models that stand in for one another, in a server process, before providers behind real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health_pb2

from agent_service.client import AsyncClient
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, Task
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process
from tests.fakes.provider import FakeProvider, cut_stream, finish, status, stream, text, usage

CONFIG = """
models:
  first:
    provider: openai
    model_id: big
    base_url: {first}
    max_tokens: 500
    fallbacks: [second]
    retry: {{attempts: {attempts}, base_delay_s: 0, max_delay_s: 0}}
  second:
    provider: azure
    model_id: small
    base_url: {second}
    max_tokens: 200
agents:
  assistant: {{model: first, timeout_s: 30}}
rate_limits:
  - {{name: default, max_calls: 1000}}
  - {{name: second, match: {{model: second}}, max_model_calls: {second_max}, window_seconds: 3600}}
"""


class Providers:
    """The two, and the server that asks them."""

    def __init__(self, first: FakeProvider, second: FakeProvider, server: ServerProcess, client: AsyncClient) -> None:
        self.first = first
        self.second = second
        self.server = server
        self.client = client


@asynccontextmanager
async def asked(directory: Path, *, attempts: int = 1, second_max: int = 1000) -> AsyncIterator[Providers]:
    async with FakeProvider() as first, FakeProvider() as second:
        config = CONFIG.format(
            first=first.base_url,
            second=second.base_url.removesuffix("/v1"),
            attempts=attempts,
            second_max=second_max,
        )
        (directory / "config.yaml").write_text(config)
        keys = {"OPENAI_API_KEY": "key-of-the-first", "AZURE_OPENAI_API_KEY": "key-of-the-second"}
        async with (
            server_process(directory, LLM_PROVIDER="", **keys) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            yield Providers(first, second, server, client)


async def turned(target: str, name: str, wanted: int) -> None:
    """Wait until that is the status of that name."""
    async with asyncio.timeout(30), aio.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
        statuses = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(service=name))
        async for status in statuses:
            if status.status == wanted:
                return


async def test_a_cut_stream_falls_back_and_the_text_before_is_void(tmp_path: Path) -> None:
    async with asked(tmp_path, attempts=2) as providers:
        providers.first.will(cut_stream(text("I was inter")), cut_stream(text("And aga")))
        providers.second.will(stream(text("whole"), finish(), usage(5, 1)))
        events = [event async for event in providers.client.stream("hi")]
        began = [event.model_started for event in events if event.HasField("model_started")]
        assert [(one.model, one.try_number) for one in began] == [("first", 1), ("first", 2), ("second", 3)]
        # Each reserves what its own model may write.
        assert began[1].tokens_reserved - began[2].tokens_reserved == 300
        deltas = [event.text_delta for event in events if event.HasField("text_delta")]
        assert [(one.try_number, one.offset, one.text) for one in deltas] == [
            (1, 0, "I was inter"),
            (2, 0, "And aga"),
            (3, 0, "whole"),
        ]
        [replied] = [event.model_replied for event in events if event.HasField("model_replied")]
        assert (replied.try_number, events[-1].completed.output) == (3, "whole")
        [azure] = providers.second.requests
        assert azure.path == "/openai/deployments/small/chat/completions?api-version=2024-10-21"
        assert azure.headers["api-key"] == "key-of-the-second"
        # Every try is in the log and in the metrics too.
        await providers.server.logged("model_request", times=3)
        tries = [line for line in providers.server.log if line["event"] == "model_request"]
        assert [(line["model"], line["try"], line["outcome"]) for line in tries] == [
            ("first", 1, "LLM_UNAVAILABLE"),
            ("first", 2, "LLM_UNAVAILABLE"),
            ("second", 3, "reply"),
        ]
        metrics = await providers.server.metrics()
        assert 'agent_service_model_requests_total{model="first",outcome="LLM_UNAVAILABLE"} 2.0' in metrics
        assert 'agent_service_model_requests_total{model="second",outcome="reply"} 1.0' in metrics
        assert 'agent_service_tokens_total{direction="input",model="second"} 5.0' in metrics
        assert "key-of-the" not in "".join(providers.server.stderr)


async def test_a_model_that_is_down_is_passed_over_and_health_and_metrics_say_so(tmp_path: Path) -> None:
    async with asked(tmp_path) as providers:
        providers.first.will(*[status(503)] * 5)
        providers.second.will(*[stream(text("whole"), finish(), usage())] * 7)
        assert await providers.client.health("model/first") == "SERVING"
        for _ in range(7):
            assert (await providers.client.run("hi")).state == TASK_STATE_COMPLETED
        assert len(providers.first.requests) == 5
        await turned(providers.server.target, "model/first", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await providers.client.health("model/second") == "SERVING"
        assert await providers.client.health("readiness") == "SERVING"
        opened = await providers.server.logged("model_circuit")
        assert (opened["provider"], opened["model_id"], opened["circuit"]) == ("openai", "big", "open")
        metrics = await providers.server.metrics()
        assert 'agent_service_model_breaker{model="second",provider="azure"} 0.0' in metrics
        assert 'agent_service_model_breaker{model="first",provider="openai"} 0.0' not in metrics
        # It comes back by itself.
        await turned(providers.server.target, "model/first", health_pb2.HealthCheckResponse.SERVING)
        providers.first.will(stream(text("back"), finish(), usage()))
        assert (await providers.client.run("hi")).output == "back"
        metrics = await providers.server.metrics()
        assert 'agent_service_model_breaker{model="first",provider="openai"} 0.0' in metrics


async def test_a_fallback_has_limits_of_its_own_and_a_limit_is_no_reason_to_fall_back(tmp_path: Path) -> None:
    async with asked(tmp_path, second_max=1) as providers:
        providers.first.will(status(503), status(503), stream(text("first"), finish(), usage()))
        providers.second.will(stream(text("second"), finish(), usage()))
        tasks: list[Task] = [await providers.client.run("hi", timeout_s=timeout_s) for timeout_s in (60, 5, 60)]
        assert [task.output for task in tasks] == ["second", "", "first"]
        assert tasks[1].failure.reason == reasons.ERROR_REASON_RATE_LIMITED_TOKENS
        assert len(providers.second.requests) == 1


async def test_the_command_line_says_who_was_asked_instead(tmp_path: Path) -> None:
    async with asked(tmp_path) as providers:
        providers.first.will(cut_stream(text("I was inter")))
        providers.second.will(stream(text("whole"), finish(), usage()))
        env = environment(API_KEY=KEY, AGENT_SERVICE_TARGET=providers.server.target)
        code, out, _ = await command("run", "hi", cwd=tmp_path, env=env)
        assert code == 0
        assert "turn 1: asking first" in out
        assert "turn 1: asking second instead, try 2" in out
        assert out.rstrip().endswith("whole")

"""A whole task over gRPC whose model is an OpenAI-compatible server behind a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_service.client import AsyncClient
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED
from tests.e2e.processes import KEY, server_process
from tests.fakes.provider import (
    FakeProvider,
    cut_stream,
    finish,
    hanging_stream,
    slow_stream,
    status,
    stream,
    text,
    tool_call,
    usage,
)
from tests.harness import SOON_S

ARGUMENTS = '{"expression": "2340 * 0.175"}'

CONFIG = """
models:
  default:
    provider: openai
    model_id: test-model
    capabilities: {{json_schema: true}}
    base_url: {base_url}
    retry: {{attempts: 3, base_delay_s: 0.01, max_delay_s: 0.02}}
agents:
  assistant: {{model: default, tools: [calculator], timeout_s: 20}}
"""


def settings(directory: Path, provider: FakeProvider) -> dict[str, str]:
    (directory / "config.yaml").write_text(CONFIG.format(base_url=provider.base_url))
    return {"LLM_PROVIDER": "", "OPENAI_API_KEY": "provider-key-for-tests"}


async def test_a_task_with_a_tool_is_answered_over_two_real_sockets(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(
            stream(tool_call(0, "call_a", "calculator", ARGUMENTS), finish("tool_calls"), usage()),
            stream(text("It is "), text("409.5."), finish(), usage()),
        )
        async with (
            server_process(tmp_path, **settings(tmp_path, provider)) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            task = await client.run("What is 17.5% of 2340?")
        assert (task.state, task.output) == (TASK_STATE_COMPLETED, "It is 409.5.")
        assert (task.usage.input_tokens, task.usage.output_tokens, task.usage.estimated) == (22, 14, False)
        second = provider.requests[1].body
        assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]
        assert second["messages"][2]["content"] == "409.5"
        assert provider.requests[0].headers["authorization"] == "Bearer provider-key-for-tests"


async def test_tries_are_journaled_and_the_text_of_a_cut_one_is_void(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(cut_stream(text("I was interr")), status(500), stream(text("whole"), finish(), usage()))
        async with (
            server_process(tmp_path, **settings(tmp_path, provider)) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            events = [event async for event in client.stream("hi")]
        failed = [event.model_failed for event in events if event.HasField("model_failed")]
        assert [one.try_number for one in failed] == [1, 2]
        assert {one.failure.reason for one in failed} == {reasons.ERROR_REASON_LLM_UNAVAILABLE}
        deltas = [event.text_delta for event in events if event.HasField("text_delta")]
        assert [(delta.try_number, delta.text) for delta in deltas] == [(1, "I was interr"), (3, "whole")]
        assert events[-1].completed.output == "whole"


async def test_a_slow_drip_ends_at_the_tasks_deadline(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(slow_stream(*(text("drip") for _ in range(1000)), interval_s=0.1))
        async with (
            server_process(tmp_path, **settings(tmp_path, provider)) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            async with asyncio.timeout(SOON_S):
                task = await client.run("hi", timeout_s=1)
            assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_DEADLINE_EXCEEDED)


@pytest.mark.parametrize("code", [401, 403])
async def test_a_provider_that_refuses_our_key_never_makes_the_caller_unauthenticated(
    tmp_path: Path, code: int
) -> None:
    async with FakeProvider() as provider:
        provider.will(status(code, {"error": {"message": "CANARY", "code": "invalid_api_key"}}))
        async with (
            server_process(tmp_path, **settings(tmp_path, provider)) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            task = await client.run("hi")
            assert task.failure.reason == reasons.ERROR_REASON_LLM_AUTH
            assert "CANARY" not in task.failure.message
            assert "provider-key-for-tests" not in "".join(server.stderr)


async def test_a_client_that_vanishes_closes_the_connection_to_the_provider_within_a_second(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(hanging_stream(text("I have begun")))
        async with (
            server_process(tmp_path, **settings(tmp_path, provider)) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            events = client.stream("hi")
            async for event in events:
                if event.HasField("text_delta"):
                    break
            await events.aclose()
            async with asyncio.timeout(SOON_S):
                await provider.requests[0].client_gone.wait()
                ended = await server.logged("task")
            assert ended["state"] == "CANCELED"


async def test_an_answer_by_a_schema_is_asked_for_strictly_and_again_where_it_breaks_it(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"total": {"type": "number"}},
        "required": ["total"],
        "additionalProperties": False,
    }
    async with FakeProvider() as provider:
        provider.will(
            stream(text('{"total": '), text('"much"}'), finish(), usage()),
            stream(text('{"total": 409.5}'), finish(), usage()),
        )
        async with (
            server_process(tmp_path, **settings(tmp_path, provider)) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            task = await client.run("What is 17.5% of 2340?", output_schema=schema)
        assert (task.state, task.output) == (TASK_STATE_COMPLETED, '{"total": 409.5}')
        assert task.output_struct.fields["total"].number_value == 409.5
        first, second = (request.body for request in provider.requests)
        assert first["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": schema}
        assert second["response_format"] == first["response_format"]
        assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
        assert "total: must be of type number" in second["messages"][-1]["content"]

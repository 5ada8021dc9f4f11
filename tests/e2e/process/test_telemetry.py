"""One task with two tools and one retry, as traces, log lines and metrics show it; and where traces go wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.e2e.observed import CALLER_SPAN_ID, SECRET_WORD, TRACE_ID, Recorded, metadata, observed
from tests.e2e.processes import agent_service, environment, server_process
from tests.fakes.collector import FakeCollector
from tests.fakes.provider import finish, stream, text, usage

RUN_TASK = "agent_service.v1.AgentService/RunTask"


def test_a_task_is_one_trace_from_the_caller_to_the_provider(recorded: Recorded) -> None:
    call, agent = recorded.span(RUN_TASK), recorded.span("invoke_agent assistant")
    chats = recorded.named("chat fake-1")
    tools = [recorded.span(f"execute_tool {name}") for name in ("calculator", "echo")]
    assert recorded.task.state == TASK_STATE_COMPLETED
    assert len(recorded.spans) == 7
    assert {span.trace_id for span in recorded.spans} == {TRACE_ID}
    assert (call.kind, call.parent_id) == ("SERVER", CALLER_SPAN_ID)
    assert (agent.kind, agent.parent_id) == ("INTERNAL", call.span_id)
    assert {span.parent_id for span in (*chats, *tools)} == {agent.span_id}
    assert {span.kind for span in chats} == {"CLIENT"}


def test_each_request_to_the_provider_carries_the_span_that_is_about_it(recorded: Recorded) -> None:
    sent = [headers["traceparent"] for headers in recorded.provider_headers]
    assert sent == [f"00-{TRACE_ID}-{chat.span_id}-01" for chat in recorded.named("chat fake-1")]
    assert len(sent) == 3


def test_spans_say_what_they_are_about_by_the_conventions(recorded: Recorded) -> None:
    call, agent, tool = (
        recorded.span(name) for name in (RUN_TASK, "invoke_agent assistant", "execute_tool calculator")
    )
    failed, asking, answering = recorded.named("chat fake-1")
    task_id = recorded.task.id
    assert call.attributes | {"agent_service.request.id": ""} == {
        "rpc.system.name": "grpc",
        "rpc.method": RUN_TASK,
        "rpc.response.status_code": "OK",
        "agent_service.tenant": "default",
        "agent_service.request.id": "",
        "agent_service.task.id": task_id,
    }
    assert agent.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "assistant",
        "agent_service.tenant": "default",
        "agent_service.task.id": task_id,
        "agent_service.task.attempt": 1,
        "agent_service.task.state": "COMPLETED",
        "gen_ai.usage.input_tokens": 22,
        "gen_ai.usage.output_tokens": 14,
        "agent_service.cost": 0.00005,
    }
    assert failed.is_error
    assert failed.attributes["error.type"] == "LLM_UNAVAILABLE"
    assert (failed.attributes["agent_service.turn"], failed.attributes["agent_service.try"]) == (1, 1)
    assert (asking.attributes["agent_service.turn"], asking.attributes["agent_service.try"]) == (1, 2)
    assert asking.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert answering.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert answering.attributes | {"gen_ai.response.time_to_first_chunk": 0} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fake-1",
        "gen_ai.request.max_tokens": 4096,
        "gen_ai.response.model": "fake-1",
        "gen_ai.response.time_to_first_chunk": 0,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "agent_service.model": "default",
        "agent_service.cost": 0.000025,
        "agent_service.turn": 2,
        "agent_service.try": 1,
    }
    assert tool.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "calculator",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_a",
    }
    assert call.resource["service.name"] == "agent-service"
    assert recorded.collector_headers["x-collector-key"] == "it is me"


def test_nothing_that_was_said_stands_in_a_trace(recorded: Recorded) -> None:
    assert SECRET_WORD not in repr(recorded.spans)


async def test_what_was_said_stands_in_a_trace_where_that_is_asked_for(tmp_path: Path) -> None:
    async with observed(tmp_path, TRACES_CONTENT="true") as seen:
        await seen.collector.span("chat fake-1", 3)
        tool = await seen.collector.span("execute_tool echo")
        _, asking, answering = seen.collector.named("chat fake-1")

    assert tool.attributes["gen_ai.tool.call.arguments"] == json.dumps({"text": SECRET_WORD})
    assert tool.attributes["gen_ai.tool.call.result"] == json.dumps(SECRET_WORD)
    (asked,) = json.loads(asking.attributes["gen_ai.input.messages"])
    assert (asked["role"], SECRET_WORD in asked["parts"][0]["content"]) == ("user", True)
    (wants,) = json.loads(asking.attributes["gen_ai.output.messages"])
    assert [part["name"] for part in wants["parts"]] == ["calculator", "echo"]
    roles = [message["role"] for message in json.loads(answering.attributes["gen_ai.input.messages"])]
    assert roles == ["user", "assistant", "tool", "tool"]
    (said,) = json.loads(answering.attributes["gen_ai.output.messages"])
    assert said == {"role": "assistant", "parts": [{"type": "text", "content": "It is 42."}], "finish_reason": "stop"}


def test_log_lines_name_the_trace_and_the_span(recorded: Recorded) -> None:
    lines = {line["event"]: line for line in recorded.log}
    requests = [line for line in recorded.log if line["event"] == "model_request"]
    assert [line["span_id"] for line in requests] == [span.span_id for span in recorded.named("chat fake-1")]
    assert lines["rpc"]["span_id"] == recorded.span(RUN_TASK).span_id
    assert lines["task"]["span_id"] == recorded.span("invoke_agent assistant").span_id
    assert {line["trace_id"] for line in (*requests, lines["rpc"], lines["task"])} == {TRACE_ID}
    assert "trace_id" not in lines["started"]


def test_durations_name_the_trace_to_those_who_read_openmetrics(recorded: Recorded) -> None:
    exemplars = [line for line in recorded.openmetrics.splitlines() if TRACE_ID in line]
    assert {line.partition("_bucket")[0] for line in exemplars} == {
        "grpc_server_handling_seconds",
        "agent_service_task_seconds",
        "agent_service_model_request_seconds",
        "agent_service_model_first_token_seconds",
        "agent_service_tool_seconds",
    }
    assert TRACE_ID not in recorded.metrics


async def test_a_trace_that_the_caller_does_not_sample_is_not_recorded_and_passed_on(tmp_path: Path) -> None:
    unsampled = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"
    async with observed(tmp_path) as seen:
        seen.provider.will(stream(text("again"), finish(), usage()))
        await seen.stub.RunTask(pb.RunTaskRequest(task="again"), metadata=metadata(unsampled))
        assert seen.provider.requests[-1].headers["traceparent"] == unsampled
        await seen.stop()
        last = [line for line in seen.server.log if line["event"] == "task"][-1]
    assert last["trace_id"] == "a" * 32
    assert {span.trace_id for span in seen.collector.spans} == {TRACE_ID}


async def test_what_is_left_of_the_traces_is_sent_at_the_end(tmp_path: Path) -> None:
    async with observed(tmp_path, OTEL_BSP_SCHEDULE_DELAY="3600000") as seen:
        assert seen.collector.spans == []
        await seen.stop()
    assert len(seen.collector.spans) == 7


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    async with observed(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as seen:
        assert seen.task.state == TASK_STATE_COMPLETED
        await seen.stop()


async def test_whoever_has_no_key_begins_no_trace(tmp_path: Path) -> None:
    async with observed(tmp_path) as seen:
        with pytest.raises(grpc.RpcError):
            await seen.stub.RunTask(pb.RunTaskRequest(task="x"), metadata=metadata()[1:])
        await seen.stop()
    assert len(seen.collector.named(RUN_TASK)) == 1


SLOW = """
- match: .*
  turns:
    - text: one two three four five six
      chunk_delay_s: {delay}
"""


async def test_an_attempt_after_a_crash_is_part_of_the_same_trace(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "models: {default: {provider: scripted, script: script.yaml}}\nagents: {assistant: {model: default}}\n"
    )
    async with FakeCollector() as collector:
        settings = {
            "LLM_PROVIDER": "",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        (tmp_path / "script.yaml").write_text(SLOW.format(delay=30))
        async with server_process(tmp_path, **settings) as server:
            async with aio.insecure_channel(server.target, options=(("grpc.enable_http_proxy", 0),)) as channel:
                stub: Any = AgentServiceStub(channel)
                submit = pb.SubmitTaskRequest(run=pb.RunTaskRequest(task="slow"))
                await stub.SubmitTask(submit, metadata=metadata())
                submitting = await collector.span("agent_service.v1.AgentService/SubmitTask")
                watch = pb.WatchTaskRequest(task_id=submitting.attributes["agent_service.task.id"])
                async for response in stub.WatchTask(watch, metadata=metadata()):
                    if response.event.HasField("text_delta"):
                        break
            server.process.kill()
        (tmp_path / "script.yaml").write_text(SLOW.format(delay=0))
        async with server_process(tmp_path, **settings):
            attempt = await collector.span("invoke_agent assistant")

    assert (attempt.trace_id, attempt.parent_id) == (TRACE_ID, submitting.span_id)
    assert attempt.attributes["agent_service.task.attempt"] == 2
    assert attempt.attributes["agent_service.task.state"] == "COMPLETED"


async def test_a_call_that_repeats_another_is_linked_to_it(tmp_path: Path) -> None:
    other = "00-cccccccccccccccccccccccccccccccc-dddddddddddddddd-01"
    async with observed(tmp_path) as seen:
        seen.provider.will(stream(text("once"), finish(), usage()))
        request = pb.RunTaskRequest(task="once", request_id="the-same")
        for traceparent in (metadata(), metadata(other)):
            await seen.stub.RunTask(request, metadata=traceparent)
        await seen.stop()
    _, first, second = seen.collector.named(RUN_TASK)
    assert (second.trace_id, second.links) == ("c" * 32, (first.span_id,))
    assert first.links == ()


async def test_without_the_packages_a_start_that_wants_traces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ImportError('not here', name='opentelemetry')")
    process = await asyncio.create_subprocess_exec(
        *agent_service("serve"),
        cwd=tmp_path,
        env=environment(OTEL_TRACES_EXPORTER="otlp", PYTHONPATH=str(tmp_path), API_PORT="0", METRICS_PORT="0"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert "pip install 'agent-service[otlp]'" in said.decode()

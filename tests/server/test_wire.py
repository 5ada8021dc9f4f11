"""What callers meet at the wire: keys, malformed messages, unknown methods, bounds, metadata, health."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agent_service.client import CallError
from agent_service.limits.base import Rule
from agent_service.server.health import Health
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.harness import KEY, OTHER_KEY, SOON_S, FakeModel, Parts, Running, says, started

SERVICE = "/agent_service.v1.AgentService"
METADATA = (("x-api-key", KEY),)


@tool(side_effect="read_only")
def describe(value: Any) -> str:
    """Tells the type of what it got."""
    return f"{type(value).__name__}:{value}"


async def refusal(call: Any) -> CallError:
    with pytest.raises(grpc.RpcError) as refused:
        await call
    return CallError.of(refused.value)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "API_KEY_MISSING"),
        ((("x-api-key", ""),), "API_KEY_MISSING"),
        ((("x-api-key", "wrong"),), "API_KEY_INVALID"),
        ((("authorization", "Bearer wrong"),), "API_KEY_INVALID"),
        ((("authorization", f"Basic {KEY}"),), "API_KEY_MISSING"),
        ((("x-api-key", KEY), ("authorization", f"Bearer {OTHER_KEY}")), "API_KEY_INVALID"),
        ((("x-api-key", KEY), ("x-api-key", OTHER_KEY)), "API_KEY_INVALID"),
        ((("x-api-key", OTHER_KEY), ("x-api-key", KEY)), "API_KEY_INVALID"),
        ((("x-api-key", KEY), ("x-api-key", "wrong")), "API_KEY_INVALID"),
        ((("x-api-key", KEY), ("x-api-key", KEY), ("x-api-key", "wrong")), "API_KEY_INVALID"),
        ((("authorization", f"Bearer {KEY}"), ("authorization", "Bearer wrong")), "API_KEY_INVALID"),
        ((("authorization", "Basic x"), ("authorization", "Bearer wrong"), ("x-api-key", KEY)), "API_KEY_INVALID"),
    ],
)
async def test_a_call_without_a_good_key_is_unauthenticated(metadata: Any, reason: str) -> None:
    async with started() as running, running.channel() as channel:
        stub = AgentServiceStub(channel)
        error = await refusal(stub.RunTask(pb.RunTaskRequest(task="hi"), metadata=metadata))
        assert (error.code, error.reason) == ("UNAUTHENTICATED", reason)
        assert error.request_id


@pytest.mark.parametrize(
    "metadata",
    [
        (("x-api-key", KEY),),
        (("authorization", f"Bearer {KEY}"),),
        (("authorization", f"bearer  {KEY}"),),
        (("x-api-key", KEY), ("authorization", f"Bearer {KEY}")),
        (("x-api-key", KEY), ("x-api-key", KEY)),
        (("x-api-key", ""), ("x-api-key", KEY)),
        (("authorization", "Basic x"), ("authorization", f"Bearer {KEY}")),
    ],
)
async def test_a_key_is_taken_from_either_place(metadata: Any) -> None:
    async with started() as running, running.channel() as channel:
        await AgentServiceStub(channel).ListAgents(pb.ListAgentsRequest(), metadata=metadata)


async def test_a_refused_caller_that_never_sends_its_request_is_answered_all_the_same() -> None:
    async with started() as running, running.channel() as channel:
        # A client stream that is never begun: the server sees headers alone.
        call = channel.stream_unary(f"{SERVICE}/RunTask")()
        async with asyncio.timeout(SOON_S):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", ["RunTask", "GetTask", "ToolInvoke"])
@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff", b"\x0a\xff", b"\x0a\x02\xc3\x28"])
async def test_a_malformed_message_is_an_invalid_argument(method: str, body: bytes) -> None:
    async with started() as running, running.channel() as channel:
        error = await refusal(channel.unary_unary(f"{SERVICE}/{method}")(body, metadata=METADATA))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


async def test_a_malformed_message_to_a_stream_is_an_invalid_argument() -> None:
    async with started() as running, running.channel() as channel:
        call = channel.unary_stream(f"{SERVICE}/StreamTask")(b"\xff\xff\xff", metadata=METADATA)
        error = await refusal(call.read())
        assert error.reason == "MALFORMED_MESSAGE"


async def test_an_unknown_method_is_unimplemented_and_needs_a_key_too() -> None:
    async with started() as running, running.channel() as channel:
        method = channel.unary_unary(f"{SERVICE}/Nope")
        assert (await refusal(method(b""))).code == "UNAUTHENTICATED"
        error = await refusal(method(b"", metadata=METADATA))
        assert (error.code, error.reason) == ("UNIMPLEMENTED", "METHOD_NOT_FOUND")
        exposition = running.metrics.registry.get_sample_value(
            "grpc_server_handled_total",
            {"grpc_service": "unknown", "grpc_method": "unknown", "grpc_code": "UNIMPLEMENTED"},
        )
        assert exposition == 1


def nested(depth: int) -> Struct:
    struct = Struct()
    inner = struct
    for _ in range(depth - 1):
        inner = inner.fields["a"].struct_value
    inner.fields["end"].number_value = 1
    return struct


def number(value: float) -> Struct:
    struct = Struct()
    struct.fields["value"].number_value = value
    return struct


RUN = pb.RunTaskRequest
TOOL = pb.ToolInvokeRequest


BROKEN_RUNS: list[tuple[pb.RunTaskRequest, str]] = [
    (RUN(), "task"),
    (RUN(task="  \n "), "task"),
    (RUN(task="x" * 10_001), "task"),
    (RUN(task="x", agent="a b"), "agent"),
    (RUN(task="x", agent="a" * 129), "agent"),
    (RUN(task="x", timeout=Duration(nanos=999_999_999)), "timeout"),
    (RUN(task="x", timeout=Duration(seconds=3601)), "timeout"),
    (RUN(task="x", timeout=Duration(seconds=-1)), "timeout"),
    (RUN(task="x", labels={f"k{index}": "v" for index in range(33)}), "labels"),
    (RUN(task="x", labels={"a b": "v"}), "labels[a b]"),
    (RUN(task="x", labels={"": "v"}), "labels[]"),
    (RUN(task="x", labels={"k": "v" * 257}), "labels[k]"),
    (RUN(task="x", labels={"k" * 64: "v"}), "labels[" + "k" * 64 + "]"),
    (RUN(task="x", timeout=Duration(seconds=3600, nanos=1)), "timeout"),
]


@pytest.mark.parametrize(
    ("method", "request_message", "field"),
    [
        *(("RunTask", run, field) for run, field in BROKEN_RUNS),
        *(("StreamTask", pb.StreamTaskRequest(run=run), f"run.{field}") for run, field in BROKEN_RUNS),
        ("ToolInvoke", TOOL(), "tool_name"),
        ("ToolInvoke", TOOL(tool_name="Describe"), "tool_name"),
        ("ToolInvoke", TOOL(tool_name="a" * 65), "tool_name"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs_json="[1]"), "inputs"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs_json="{"), "inputs"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs_json="{}"), "inputs.value"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs_json='{"value":1,"more":2}'), "inputs.more"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs_json=" " * (1024 * 1024 + 1)), "inputs_json"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs=number(2.0**53)), "inputs.value"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs=number(float("nan"))), "inputs.value"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs=number(float("-inf"))), "inputs.value"),
        ("ToolInvoke", TOOL(tool_name="describe", inputs=nested(33)), "inputs" + ".a" * 32),
        ("ToolInvoke", TOOL(tool_name="describe", timeout=Duration(seconds=3601)), "timeout"),
        ("ToolInvoke", TOOL(tool_name="describe", timeout=Duration()), "timeout"),
    ],
)
async def test_a_broken_bound_names_its_field(method: str, request_message: Any, field: str) -> None:
    async with started(Parts(tools=[describe])) as running, running.channel() as channel:
        call = getattr(AgentServiceStub(channel), method)(request_message, metadata=METADATA)
        error = await refusal(call.read() if method == "StreamTask" else call)
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        assert field in [path for path, _ in error.violations]
        assert all(description for _, description in error.violations)


async def test_all_broken_bounds_are_told_at_once_with_the_path_inside_the_stream_request() -> None:
    async with started() as running, running.channel() as channel:
        run = pb.RunTaskRequest(task="", agent="a b", timeout=Duration(seconds=9999))
        call = AgentServiceStub(channel).StreamTask(pb.StreamTaskRequest(run=run), metadata=METADATA)
        error = await refusal(call.read())
        assert {path for path, _ in error.violations} == {"run.task", "run.agent", "run.timeout"}
        error = await refusal(AgentServiceStub(channel).StreamTask(pb.StreamTaskRequest(), metadata=METADATA).read())
        assert error.violations[0][0] == "run"


async def test_the_length_of_a_task_is_counted_in_code_points() -> None:
    async with started() as running:
        assert (await running.client.run("𝄞" * 10_000)).output == "hello"


@pytest.mark.parametrize(
    ("inputs", "seen"),
    [
        (number(7), "int:7"),
        (number(-0.0), "int:0"),
        (number(2.0**53 - 1), "int:9007199254740991"),
        (number(0.5), "float:0.5"),
    ],
)
async def test_numbers_of_a_struct_reach_tools_as_what_they_are(inputs: Struct, seen: str) -> None:
    async with started(Parts(tools=[describe])) as running, running.channel() as channel:
        response = await AgentServiceStub(channel).ToolInvoke(
            TOOL(tool_name="describe", inputs=inputs), metadata=METADATA
        )
        assert response.output.string_value == seen


async def test_large_integers_reach_tools_exactly_as_json_text() -> None:
    async with started(Parts(tools=[describe])) as running:
        response = await running.client.invoke_tool("describe", '{"value": 12345678901234567890}')
        assert response.output.string_value == "int:12345678901234567890"


async def test_names_that_nobody_has_are_not_found_with_the_nearest() -> None:
    async with started(Parts(tools=[describe])) as running:
        for call, reason, near in (
            (running.client.run("hi", agent="asistant"), "AGENT_NOT_FOUND", "assistant"),
            (running.client.invoke_tool("descripe"), "TOOL_NOT_FOUND", "describe"),
        ):
            with pytest.raises(CallError) as refused:
                await call
            assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", reason)
            assert near in refused.value.message


async def test_a_limit_of_n_calls_lets_exactly_n_of_64_concurrent_callers_through() -> None:
    rules = [Rule("burst", calls_max=10, window_s=60)]
    async with started(Parts(rules=rules)) as running:
        outcomes = await asyncio.gather(*(running.client.run("hi") for _ in range(64)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, CallError)]
        assert len(outcomes) - len(refused) == 10
        assert {error.reason for error in refused} == {"RATE_LIMITED_CALLS"}
        assert all(error.retry_after_s and 50 < error.retry_after_s <= 60 for error in refused)
        assert (await running.other_tenant.run("hi")).output == "hello"


async def test_calls_that_start_no_work_are_not_counted() -> None:
    async with started(Parts(rules=[Rule("one", calls_max=1)])) as running:
        task = await running.client.run("hi")
        for _ in range(3):
            await running.client.get_task(task.id)
            await running.client.list_tools()


async def test_the_limits_state_is_told_in_the_metadata() -> None:
    async with started(Parts(rules=[Rule("ten", calls_max=10)])) as running, running.channel() as channel:
        call = AgentServiceStub(channel).RunTask(pb.RunTaskRequest(task="hi"), metadata=METADATA)
        await call
        initial = dict(await call.initial_metadata())
        assert (initial["ratelimit-limit"], initial["ratelimit-remaining"]) == ("10", "9")
        assert 0 < int(initial["ratelimit-reset"]) <= 60


async def test_a_refusal_tells_the_limits_state_and_when_to_come_back_in_the_trailers() -> None:
    async with started(Parts(rules=[Rule("one", calls_max=1)])) as running, running.channel() as channel:
        await running.client.run("hi")
        with pytest.raises(aio.AioRpcError) as refused:
            await AgentServiceStub(channel).RunTask(pb.RunTaskRequest(task="hi"), metadata=METADATA)
        trailers = dict(refused.value.trailing_metadata())
        assert (trailers["ratelimit-limit"], trailers["ratelimit-remaining"]) == ("1", "0")
        assert trailers["ratelimit-reset"] == trailers["retry-after"]
        retry_after_s = CallError.of(refused.value).retry_after_s
        assert retry_after_s is not None
        assert int(trailers["grpc-retry-pushback-ms"]) == -(-int(retry_after_s * 1e6) // 1000)


@pytest.mark.parametrize("given", ["abc-123", None, "bad id", "x" * 200])
async def test_every_answer_names_its_request(given: str | None) -> None:
    async with started() as running, running.channel() as channel:
        metadata = (*METADATA, *((("x-request-id", given),) if given else ()))
        call = AgentServiceStub(channel).ListTools(pb.ListToolsRequest(), metadata=metadata)
        await call
        told = dict(await call.initial_metadata())["x-request-id"]
        assert told == given if given == "abc-123" else told and told != given
        error = await refusal(AgentServiceStub(channel).GetTask(pb.GetTaskRequest(task_id="x"), metadata=metadata))
        assert error.request_id


async def test_one_line_is_logged_for_each_call_and_never_a_key_or_a_prompt() -> None:
    async with started(Parts(model=FakeModel(says("CANARY-answer")))) as running:
        await running.client.run("CANARY-prompt")
        (line,) = [line for line in running.log if line["event"] == "rpc"]
        assert line["method"] == f"{SERVICE}/RunTask"
        assert (line["code"], line["tenant"], line["level"]) == ("OK", "acme", "INFO")
        assert {"request_id", "task_id", "duration_ms", "peer", "ts"} <= set(line)
        (task,) = [line for line in running.log if line["event"] == "task"]
        assert (task["state"], task["task_id"]) == ("COMPLETED", line["task_id"])
        assert "CANARY" not in str(running.log)
        assert KEY not in str(running.log)


async def health(running: Running, name: str) -> int:
    async with running.channel() as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        response = await health_pb2_grpc.HealthStub(channel).Check(request)
        status: int = response.status
        return status


async def test_health_answers_under_every_name_without_a_key() -> None:
    async with started() as running:
        for name in ("", "agent_service.v1.AgentService", "startup", "liveness", "readiness"):
            assert await health(running, name) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            await health(running, "nope")
        assert isinstance(refused.value, aio.AioRpcError)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_lists_every_name_without_a_key() -> None:
    async with started() as running, running.channel() as channel:
        # On the wire a map of names to statuses looks like a Struct of enums: read by other code than the server's.
        listing = channel.unary_unary("/grpc.health.v1.Health/List", None, Struct.FromString)
        listed = {name: int(value.null_value) for name, value in (await listing(b"")).fields.items()}
    names = ("", "agent_service.v1.AgentService", "startup", "liveness", "readiness", "check/store", "check/tools")
    assert listed == dict.fromkeys(names, health_pb2.HealthCheckResponse.SERVING)


async def test_health_is_answered_while_the_server_takes_no_more_work() -> None:
    async with started(Parts(running_max=0, rules=[Rule("none", calls_max=0)])) as running:
        assert await health(running, "readiness") == health_pb2.HealthCheckResponse.SERVING


async def test_a_watcher_of_health_sees_the_drain_and_does_not_hold_it_up() -> None:
    async with started() as running, running.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
        first = await watch.read()
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(SOON_S):
            draining = asyncio.create_task(running.server.drain())
            second = await watch.read()
            assert second.status == health_pb2.HealthCheckResponse.NOT_SERVING
            await draining


async def test_a_watcher_of_health_is_told_the_last_status_before_the_end() -> None:
    health = Health()
    health.set_ready(True)
    told = health.watch("readiness")
    assert await anext(told) == health_pb2.HealthCheckResponse.SERVING
    health.set_ready(False)
    health.end()
    assert [status async for status in told] == [health_pb2.HealthCheckResponse.NOT_SERVING]


async def test_a_watcher_of_an_unknown_name_is_told_so_and_kept() -> None:
    async with started() as running, running.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="nope"))
        first = await watch.read()
        assert first.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_calls_of_made_up_methods_make_no_labels() -> None:
    async with started() as running, running.channel() as channel:
        for index in range(50):
            await refusal(channel.unary_unary(f"/made.up/{index}")(b"", metadata=METADATA))
        labels = {
            sample.labels["grpc_method"]
            for metric in running.metrics.registry.collect()
            for sample in metric.samples
            if "grpc_method" in sample.labels
        }
        assert labels == {"unknown"}

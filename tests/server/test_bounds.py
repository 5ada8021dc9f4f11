"""What is too large, too deep, no text or no message, in either direction, and how it is told."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import orjson
import pytest
from google.protobuf.struct_pb2 import Struct
from grpc import aio

from agent_service import errors
from agent_service.client import CallError
from agent_service.limits.base import Rule
from agent_service.schemas.output_schema import as_struct
from agent_service.server.status import status_text, trailers
from agent_service.store.memory import MemoryStore
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_pb2 import Task
from tests.e2e.processes import KEY as PROCESS_KEY
from tests.e2e.processes import server_process
from tests.harness import KEY, Parts, Running, started
from tests.server.http2 import http2, message
from tests.server.test_wire import METADATA, SERVICE, refusal

MIB = 1024 * 1024
WITH_KEY = ("x-api-key", KEY)
# What is counted for a header or trailer beside its name and value.
ENTRY_BYTES = 32


async def answer(running: Running, path: str | bytes, *more: tuple[str, str], body: bytes = b"") -> dict[str, str]:
    """What a call of one request is answered, on a connection of its own."""
    async with http2(running.target) as connection:
        stream = connection.begin(path, WITH_KEY, *more)
        await connection.send_whole(stream, body)
        return await connection.answer(stream)


@pytest.mark.parametrize("method", ["RunTask", "GetTask", "StreamTask"])
async def test_a_request_that_is_too_large_is_resource_exhausted(method: str) -> None:
    async with started(Parts(environ={"MESSAGE_RECEIVED_BYTES_MAX": str(MIB)})) as running:
        async with running.channel() as channel:
            call = channel.unary_stream(f"{SERVICE}/{method}")
            for _ in range(3):
                assert (await refusal(call(bytes(MIB + 1), metadata=METADATA).read())).code == "RESOURCE_EXHAUSTED"
        assert (await running.client.run("hi")).output == "hello"


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_request_is_unimplemented_and_never_unpacked(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(bytes(64 * MIB))
    assert len(packed) < MIB
    async with started() as running:
        bomb = b"\1" + len(packed).to_bytes(4, "big") + packed
        told = await answer(running, f"{SERVICE}/RunTask", ("grpc-encoding", encoding), body=bomb)
        assert told["grpc-status"] == "12"


@pytest.mark.parametrize("length", [17_000, 60_000])
async def test_metadata_that_is_too_large_is_resource_exhausted_every_time(length: int) -> None:
    async with started() as running:
        for _ in range(5):
            told = await answer(running, f"{SERVICE}/ListAgents", ("x-pad", "a" * length), body=message(b""))
            assert told["grpc-status"] == "8"


async def test_metadata_below_the_bound_is_taken_every_time() -> None:
    async with started() as running:
        for _ in range(5):
            told = await answer(running, f"{SERVICE}/ListAgents", ("x-pad", "a" * 15_000), body=message(b""))
            assert told["grpc-status"] == "0"


@pytest.mark.parametrize(
    "path", ["", "/", "//", "RunTask", "/a/b/c", f"{SERVICE}/runTask", f"{SERVICE}/RunTask/", "/%ff"]
)
async def test_a_path_that_names_no_method_is_unimplemented(path: str) -> None:
    async with started() as running:
        told = await answer(running, path, body=message(b""))
        assert (told["grpc-status"], told["grpc-message"]) == ("12", "there is no such method")


async def test_a_path_that_is_no_text_is_refused_harms_nobody_and_is_logged_in_short_lines_of_json(
    tmp_path: Path,
) -> None:
    async with server_process(tmp_path) as server:
        async with http2(server.target) as connection:
            for path in (b"/\xff\xfe/x", b"/\xff" + b"a" * 12_000):
                stream = connection.begin(path, ("x-api-key", PROCESS_KEY))
                # grpc itself answers, before anything of ours is asked.
                assert (await connection.answer(stream))["grpc-status"] == "2"
            # These end the stream or the connection, and the core of grpc would like to say so.
            for wrong in (("grpc-timeout", "abc"), ("grpc-encoding", "nonsense"), ("x-bin", "!")):
                await connection.answer(connection.begin(f"{SERVICE}/RunTask", wrong))
        async with aio.insecure_channel(server.target, options=(("grpc.enable_http_proxy", 0),)) as channel:
            metadata = (("x-api-key", PROCESS_KEY),)
            response = await AgentServiceStub(channel).ListAgents(pb.ListAgentsRequest(), metadata=metadata)
            assert {agent.name for agent in response.agents} >= {"assistant"}
        server.process.terminate()
        await server.process.wait()
        await server.logged("stopped")
    lines = [line for line in server.stderr if line != "(end of the log)"]
    assert [line for line in lines if not isinstance(json.loads(line), dict)] == []
    assert max(map(len, lines)) < 2000


@pytest.mark.parametrize("body", [b"\x0a\x02\xc3\x28", b"\x0a\x02\xff\xff"])
async def test_text_that_is_no_utf8_is_malformed_also_for_reflection(body: bytes) -> None:
    method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    async with started() as running, running.channel() as channel:
        call = channel.stream_stream(method)()
        await call.write(body)
        error = await refusal(call.read())
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


def nested_list(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def nested_object(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@tool(side_effect="read_only")
def deep(depth: int, is_object: bool) -> Any:
    """Returns what is nested so deep."""
    return nested_object(depth) if is_object else nested_list(depth)


@pytest.mark.parametrize("is_object", [True, False])
@pytest.mark.parametrize("depth", [1, 31, 32, 33, 34, 200])
async def test_what_a_tool_returns_is_a_value_that_every_peer_can_parse_and_text_where_it_is_too_deep(
    depth: int, is_object: bool
) -> None:
    async with started(Parts(tools=[deep])) as running:
        response = await running.client.invoke_tool("deep", {"depth": depth, "is_object": is_object})
    kind = response.output.WhichOneof("kind")
    assert kind == (("struct_value" if is_object else "list_value") if depth <= 32 else "string_value")


@pytest.mark.parametrize("depth", range(30, 40))
def test_an_answer_in_a_page_of_tasks_can_be_parsed_however_deep_it_is(depth: int) -> None:
    """The parser of Google's own library stops at 100 messages in one another, as those of C++ and Java do."""
    struct = as_struct(orjson.dumps(nested_object(depth)).decode())
    assert (struct is None) == (depth > 33)
    if struct is not None:
        page = pb.ListTasksResponse(tasks=[Task(output_struct=struct)])
        assert pb.ListTasksResponse.FromString(page.SerializeToString()) == page


@pytest.mark.parametrize("depth", [32, 33])
async def test_inputs_are_taken_to_the_depth_that_is_promised_and_no_deeper(depth: int) -> None:
    inputs = Struct()
    inputs.update(nested_object(depth))
    async with started(Parts(tools=[deep])) as running, running.channel() as channel:
        invoke = pb.ToolInvokeRequest(tool_name="deep", inputs=inputs)
        error = await refusal(AgentServiceStub(channel).ToolInvoke(invoke, metadata=METADATA))
    told = str(error.violations)
    assert error.reason in ("FIELD_INVALID", "MALFORMED_MESSAGE")
    assert ("32 levels" in told or error.reason == "MALFORMED_MESSAGE") == (depth == 33)


def worst(text: str) -> list[errors.AgentServiceError]:
    """Errors with as much in them as there can be."""
    metadata = dict.fromkeys(("task_id", "input_id", "request_id"), text)
    violation = errors.FieldViolation(text, text)
    reason, full = reasons.ERROR_REASON_OVERLOADED, reasons.ERROR_REASON_RATE_LIMITED_CALLS
    return [
        errors.NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, text, metadata=metadata),
        errors.StateError(reasons.ERROR_REASON_STALE_ANSWER, text, metadata=metadata),
        errors.ValidationError(100 * [violation], metadata=metadata),
        errors.OverloadedError(reason, text, metadata=metadata),
        errors.RateLimitError(full, text, rule=text, limit=10**12, subject=text, retry_after_s=10.0**6),
    ]


@pytest.mark.parametrize("character", ["a", "é", "%", "\n", "𝄞"])
def test_trailers_stay_below_what_every_client_takes_whatever_is_in_an_error(character: str) -> None:
    limits = [("ratelimit-limit", "9" * 13), ("ratelimit-remaining", "9" * 13), ("ratelimit-reset", "9" * 7)]
    for error in worst(10_000 * character):
        entries = [
            ("grpc-status", "16"),
            ("grpc-message", quote(status_text(error), safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")),
            ("x-request-id", 128 * "r"),
            ("x-task-id", 128 * "t"),
            *limits,
            *trailers(error, 128 * "r"),
        ]
        # In base64, four bytes for three.
        size = sum(
            len(name) + (len(value) * 4 // 3 if isinstance(value, bytes) else len(value)) for name, value in entries
        )
        assert size + ENTRY_BYTES * len(entries) < 8192
        assert len(entries[1][1]) <= 1024
        assert status_text(error)[:80] == error.message[:80]


@pytest.mark.parametrize("text", [" a", "a ", " ", 1023 * "a" + " b", 1020 * "a" + 3 * " " + "é", 1021 * "é" + "  "])
def test_a_status_text_neither_begins_nor_ends_with_a_space(text: str) -> None:
    sent = status_text(errors.NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, text))
    assert sent == sent.strip()


async def test_a_text_that_is_cut_at_a_space_leaves_a_strict_connection_alive() -> None:
    async with started() as running, http2(running.target) as connection:
        for length in range(60):
            # Names of labels are in the text of the error; these are of spaces alone, so it is cut at one of them.
            names = [f"{index:02}{' ' * 60}" for index in range(32)]
            run = pb.RunTaskRequest(task="x", labels=dict.fromkeys([length * "a" + "!", *names], "v"))
            stream = connection.begin(f"{SERVICE}/RunTask", WITH_KEY)
            connection.send(stream, message(run.SerializeToString()), end=True)
            assert (await connection.answer(stream))["grpc-status"] == "3"


async def test_a_long_text_in_a_status_reaches_a_client_with_its_details() -> None:
    async with started(Parts(rules=[Rule("one", calls_max=100)])) as running, running.channel() as channel:
        run = pb.RunTaskRequest(task="x", labels={f"{index:02} {40 * 'é'}": "v" for index in range(32)})
        error = await refusal(AgentServiceStub(channel).RunTask(run, metadata=METADATA))
        assert error.reason == "FIELD_INVALID"
        assert len(error.violations) > 5


class StuckStore(MemoryStore):
    """Finds nothing, for ever."""

    async def find(self, task_id: str) -> Any:
        await asyncio.Event().wait()


async def test_a_call_without_a_deadline_is_given_one() -> None:
    async with StuckStore() as store, started(Parts(store=store, environ={"CALL_TIMEOUT": "1"})) as running:
        with pytest.raises(CallError) as refused:
            await running.client.get_task("t-1")
        assert (refused.value.code, refused.value.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert refused.value.message == "the call had no deadline and was not answered within 1 s"
        assert [line["code"] for line in running.log if line["event"] == "rpc"] == ["DEADLINE_EXCEEDED"]


async def test_a_call_with_a_deadline_keeps_its_own() -> None:
    async with (
        StuckStore() as store,
        started(Parts(store=store, environ={"CALL_TIMEOUT": "1"})) as running,
        running.channel() as channel,
    ):
        methods: Any = AgentServiceStub(channel)
        began = asyncio.get_running_loop().time()
        with pytest.raises(grpc.RpcError) as refused:
            await methods.GetTask(pb.GetTaskRequest(task_id="t"), metadata=METADATA, timeout=2)
        assert asyncio.get_running_loop().time() - began > 1.9
        assert CallError.of(refused.value).code == "DEADLINE_EXCEEDED"

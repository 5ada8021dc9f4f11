"""Envoy between clients and the server, with deploy/mesh/envoy.yaml as it is shipped, ports and paths apart."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from agent_service.v1.agent_service_pb2 import RunTaskRequest, StreamTaskRequest
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.e2e.behind_proxy import METADATA, STREAM_S, details_of, follow, listening, provided, scripted
from tests.e2e.processes import KEY
from tests.fakes.ports import free_port
from tests.fakes.provider import FakeProvider, finish, hanging_stream, stream, text, usage
from tests.harness import SOON_S
from tests.plugins.toolchain import find

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "deploy" / "mesh" / "envoy.yaml"
METHODS = "/agent_service.v1.AgentService"

pytestmark = [pytest.mark.needs("envoy"), pytest.mark.timeout(120 + 3 * STREAM_S)]


@asynccontextmanager
async def envoy(directory: Path, upstream: int, *changes: tuple[str, str]) -> AsyncIterator[str]:
    """Envoy in front of that port; where it listens. `changes` are parts of its configuration and what to put there."""
    port = free_port()
    descriptor = directory / "agent_service.binpb"
    describing = await asyncio.create_subprocess_exec("sh", "scripts/descriptor", descriptor, cwd=ROOT)
    assert await describing.wait() == 0
    config = CONFIG.read_text("utf-8")
    given = (
        ("port_value: 8080", f"port_value: {port}"),
        ("port_value: 9000", f"port_value: {upstream}"),
        ("build/agent_service.binpb", str(descriptor)),
    )
    for old, new in given + changes:
        assert config.count(old) == 1, old
        config = config.replace(old, new)
    (directory / "envoy.yaml").write_text(config)
    tool = find("envoy")
    assert tool is not None
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
    process = await asyncio.create_subprocess_exec(
        tool, "--config-path", directory / "envoy.yaml", *options, stderr=asyncio.subprocess.PIPE
    )
    try:
        await listening(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
        sys.stderr.write(said.decode())


async def post(target: str, method: str, body: dict[str, Any], key: str = KEY) -> tuple[int, list[Any]]:
    """The status and the lines of the answer."""

    def posted() -> tuple[int, bytes]:
        headers = {"content-type": "application/json", "x-api-key": key}
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"http://{target}{METHODS}/{method}", data, headers)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    status, content = await asyncio.to_thread(posted)
    return status, [json.loads(line) for line in content.splitlines()]


async def test_the_methods_can_be_called_in_json(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(*[stream(text("It is "), text("409.5."), finish(), usage())] * 2)
        async with provided(tmp_path, provider) as server, envoy(tmp_path, server.port) as target:
            status, (answer,) = await post(target, "RunTask", {"task": "What is 17.5% of 2340?"})
            assert (status, answer["task"]["state"]) == (200, "TASK_STATE_COMPLETED")
            assert answer["task"]["output"] == "It is 409.5."

            status, lines = await post(target, "StreamTask", {"run": {"task": "What is 17.5% of 2340?"}})
            assert status == 200
            assert "submitted" in lines[0]["event"]
            assert lines[-1]["event"]["completed"]["output"] == "It is 409.5."


async def test_an_error_is_an_http_status_and_says_why(tmp_path: Path) -> None:
    async with scripted(tmp_path) as server, envoy(tmp_path, server.port) as target:
        status, (said,) = await post(target, "RunTask", {"task": "hi"}, key="wrong")
        assert (status, said["code"]) == (401, 16)

        status, (said,) = await post(target, "RunTask", {"task": ""})
        assert (status, said["code"]) == (400, 3)
        details = {detail["@type"].rpartition(".")[2]: detail for detail in said["details"]}
        assert details["ErrorInfo"]["reason"] == "FIELD_INVALID"
        assert details["BadRequest"]["field_violations"][0]["field"] == "task"


async def test_grpc_goes_through_as_it_is(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path) as server,
        envoy(tmp_path, server.port) as target,
        aio.insecure_channel(target) as channel,
    ):
        stub = AgentServiceStub(channel)
        streams = await asyncio.gather(*(follow(stub) for _ in range(20)))
        assert [events[-1].completed.output for events in streams] == ["the answer is 42"] * 20
        with pytest.raises(aio.AioRpcError) as invalid:
            await stub.RunTask(RunTaskRequest(task=""), metadata=METADATA)
        assert [kind.__name__ for kind in details_of(invalid.value)] == ["ErrorInfo", "BadRequest"]


async def test_it_is_the_idle_timeout_that_lets_silent_streams_live(tmp_path: Path) -> None:
    idle = ("stream_idle_timeout: 0s", f"stream_idle_timeout: {STREAM_S * 0.2:.3f}s")
    async with (
        scripted(tmp_path) as server,
        envoy(tmp_path, server.port, idle) as target,
        aio.insecure_channel(target) as channel,
    ):
        with pytest.raises(aio.AioRpcError):
            await follow(AgentServiceStub(channel))


async def test_a_client_that_cancels_ends_the_call_of_the_model(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(hanging_stream(text("I have begun")))
        async with (
            provided(tmp_path, provider) as server,
            envoy(tmp_path, server.port) as target,
            aio.insecure_channel(target) as channel,
        ):
            request = StreamTaskRequest(run=RunTaskRequest(task="hi"))
            call = AgentServiceStub(channel).StreamTask(request, metadata=METADATA)
            async for response in call:
                if response.event.HasField("text_delta"):
                    break
            call.cancel()
            async with asyncio.timeout(SOON_S):
                await provider.requests[0].client_gone.wait()

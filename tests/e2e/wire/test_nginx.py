"""nginx between clients and the server, with deploy/nginx/agent-service.conf as it is shipped, ports and paths apart.

`make test-nginx` lets calls last two minutes; those that wait for a task are silent all the while, streams but for a
heartbeat now and then. Here they last two seconds; that it is the file's read timeout that lets them live is shown by
another, shorter one that does not.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc import aio

from agent_service.client import AsyncClient, Tls
from agent_service.v1.agent_service_pb2 import GetTaskRequest, RunTaskRequest, StreamTaskRequest, StreamTaskResponse
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_WORKING
from tests.e2e.behind_proxy import METADATA, STREAM_S, details_of, follow, listening, provided, scripted, wait
from tests.e2e.processes import KEY, ServerProcess
from tests.fakes.authority import Authority
from tests.fakes.ports import free_port
from tests.fakes.provider import FakeProvider, hang, hanging_stream, text
from tests.harness import SOON_S
from tests.plugins.toolchain import find

if TYPE_CHECKING:
    from agent_service.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

CALLS = 50
CONF = Path(__file__).parents[3] / "deploy" / "nginx" / "agent-service.conf"

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.timeout(120 + 3 * STREAM_S)]

# Everything that nginx would otherwise keep at a place of the machine.
MAIN = """
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    include {directory}/agent-service.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A running nginx."""

    target: str
    tls: Tls
    credentials: grpc.ChannelCredentials

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[AgentServiceAsyncStub]:
        """Without what our own client does when a call breaks."""
        async with aio.secure_channel(self.target, self.credentials) as channel:
            yield AgentServiceStub(channel)

    def client(self) -> AsyncClient:
        return AsyncClient(self.target, api_key=KEY, tls=self.tls)


@asynccontextmanager
async def nginx(directory: Path, upstream: int, **changes: str) -> AsyncIterator[Proxy]:
    """nginx in front of that port. `changes` are other values of directives."""
    directory = directory / "nginx"
    directory.mkdir()
    authority, port = Authority(), free_port()
    certificate, key = authority.issue("127.0.0.1", "localhost").write(directory, "nginx")
    given = {
        "server": f"127.0.0.1:{upstream}",
        "listen": f"127.0.0.1:{port} ssl http2 so_keepalive=60s:20s:3",
        "ssl_certificate": str(certificate),
        "ssl_certificate_key": str(key),
    }
    conf = CONF.read_text("utf-8")
    for name, value in (given | changes).items():
        conf, replaced = re.subn(rf"^( +{name}) [^;{{]*;", rf"\1 {value};", conf, flags=re.MULTILINE)
        assert replaced == 1, name
    (directory / "agent-service.conf").write_text(conf)
    user = "user root;" if os.getuid() == 0 else ""  # who else could not get into the folders of a test
    (directory / "nginx.conf").write_text(MAIN.format(directory=directory, user=user))
    tool = find("nginx")
    assert tool is not None
    process = await asyncio.create_subprocess_exec(
        tool, "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr", stderr=asyncio.subprocess.PIPE
    )
    try:
        await listening(process, port)
        credentials = grpc.ssl_channel_credentials(authority.pem)
        yield Proxy(f"127.0.0.1:{port}", authority.client(directory), credentials)
    finally:
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
        sys.stderr.write(said.decode())


async def test_neither_streams_nor_silent_calls_are_cut(tmp_path: Path) -> None:
    async with scripted(tmp_path) as server, nginx(tmp_path, server.port) as proxy, proxy.stub() as stub:
        began = time.monotonic()
        streams, answers = await asyncio.gather(
            asyncio.gather(*(follow(stub) for _ in range(CALLS))), asyncio.gather(*(wait(stub) for _ in range(CALLS)))
        )
        lasted = time.monotonic() - began

    assert lasted >= STREAM_S
    for events in streams:
        assert events[-1].completed.output == "the answer is 42"
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [len(streams), answers] == [CALLS, ["the answer is 42"] * CALLS]
    sys.stderr.write(f"{CALLS} streams and {CALLS} silent calls of {lasted:.1f} s, none cut\n")


async def test_it_is_the_read_timeout_that_lets_them_live(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path) as server,
        nginx(tmp_path, server.port, grpc_read_timeout=f"{STREAM_S * 200:.0f}ms") as proxy,
        proxy.stub() as stub,
    ):
        with pytest.raises(aio.AioRpcError):
            await wait(stub)


async def test_a_client_that_cancels_ends_the_call_of_the_model(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(hanging_stream(text("I have begun")))
        async with provided(tmp_path, provider) as server, nginx(tmp_path, server.port) as proxy, proxy.stub() as stub:
            call = stub.StreamTask(StreamTaskRequest(run=RunTaskRequest(task="hi")), metadata=METADATA)
            async for response in call:
                if response.event.HasField("text_delta"):
                    break
            call.cancel()
            async with asyncio.timeout(SOON_S):
                await provider.requests[0].client_gone.wait()
                ended = await server.logged("task")
            assert ended["state"] == "CANCELED"


async def test_a_callers_deadline_is_the_tasks(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(hang)
        async with provided(tmp_path, provider) as server, nginx(tmp_path, server.port) as proxy, proxy.stub() as stub:
            request = StreamTaskRequest(run=RunTaskRequest(task="hi"))
            call = stub.StreamTask(request, metadata=METADATA, timeout=30)
            first = await call.read()
            assert isinstance(first, StreamTaskResponse)
            call.cancel()

    deadline, created = first.event.submitted.deadline, first.event.create_time
    assert 0 < deadline.ToSeconds() - created.ToSeconds() <= 30  # the agent itself allows it 60


async def test_a_stream_begins_before_the_model_has_said_anything(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(hang)
        async with provided(tmp_path, provider) as server, nginx(tmp_path, server.port) as proxy, proxy.stub() as stub:
            call = stub.StreamTask(StreamTaskRequest(run=RunTaskRequest(task="hi")), metadata=METADATA)
            first = await call.read()
            assert isinstance(first, StreamTaskResponse)
            shown = await stub.GetTask(GetTaskRequest(task_id=first.event.task_id), metadata=METADATA)
            call.cancel()

        assert first.event.HasField("submitted")
        assert shown.task.state == TASK_STATE_WORKING


async def test_errors_come_with_their_details_and_their_trailers(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path, RATE_LIMIT_CALLS="2", RATE_LIMIT_WINDOW="3600") as server,
        nginx(tmp_path, server.port) as proxy,
        proxy.stub() as stub,
    ):
        wrong = RunTaskRequest(task="x" * 20_000, labels={f"{number}!" * 20: "x" * 2000 for number in range(40)})
        with pytest.raises(aio.AioRpcError) as invalid:
            await stub.RunTask(wrong, metadata=METADATA)
        await stub.RunTask(RunTaskRequest(task="go"), metadata=METADATA)
        with pytest.raises(aio.AioRpcError) as limited:
            await stub.RunTask(RunTaskRequest(task="go"), metadata=METADATA)

    assert invalid.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = details_of(invalid.value)
    assert details[ErrorInfo].reason == "FIELD_INVALID"
    assert "task" in {violation.field for violation in details[BadRequest].field_violations}
    assert limited.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = details_of(limited.value)
    assert details[ErrorInfo].reason == "RATE_LIMITED_CALLS"
    wait: Duration = details[RetryInfo].retry_delay
    trailers = dict(limited.value.trailing_metadata() or ())
    assert 0 < wait.seconds < int(trailers["retry-after"]) <= 3600
    assert int(trailers["grpc-retry-pushback-ms"]) > 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_our_client_follows_a_task_through_the_end_of_its_server(tmp_path: Path, end: signal.Signals) -> None:
    port = free_port()

    async def restart(stack: AsyncExitStack, server: ServerProcess) -> None:
        server.process.send_signal(end)
        await server.process.wait()
        await stack.enter_async_context(scripted(tmp_path, API_PORT=str(port)))

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(scripted(tmp_path, API_PORT=str(port), DRAIN_GRACE="0.1"))
        proxy = await stack.enter_async_context(nginx(tmp_path, port))
        client = await stack.enter_async_context(proxy.client())
        events: list[TaskEvent] = []
        async with asyncio.TaskGroup() as group:
            async for event in client.stream("go"):
                if not events:
                    group.create_task(restart(stack, first))
                events.append(event)

    assert events[-1].completed.output == "the answer is 42"
    assert any(event.HasField("attempt_ended") for event in events)

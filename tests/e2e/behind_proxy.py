"""What stands behind a proxy in its tests, and what goes through it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from agent_service.client.following import is_journaled
from agent_service.v1.agent_service_pb2 import RunTaskRequest, StreamTaskRequest
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.fakes.provider import FakeProvider

if TYPE_CHECKING:
    from agent_service.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

# How long a call lasts that nobody interrupts.
STREAM_S = float(os.environ.get("PROXY_STREAM_S", "2"))
METADATA = (("x-api-key", KEY),)

CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default, tools: [calculator], timeout_s: 600}
"""
SCRIPT = f"""
- match: .*
  turns:
    - {{tool_calls: [{{name: calculator, arguments: {{expression: "6 * 7"}}}}], delay_s: {0.6 * STREAM_S}}}
    - {{text: the answer is 42, delay_s: {0.4 * STREAM_S}}}
"""
PROVIDED = """
models:
  default: {{provider: openai, model_id: test-model, base_url: {base_url}, retry: {{attempts: 1}}}}
agents:
  assistant: {{model: default, timeout_s: 60}}
"""


@asynccontextmanager
async def scripted(directory: Path, **settings: str) -> AsyncIterator[ServerProcess]:
    """A server whose tasks last STREAM_S."""
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "script.yaml").write_text(SCRIPT)
    limits = {"RATE_LIMIT_CALLS": "1000", "RATE_LIMIT_TOKENS": "10000000"}
    async with server_process(directory, LLM_PROVIDER="", **(limits | settings)) as server:
        yield server


@asynccontextmanager
async def provided(directory: Path, provider: FakeProvider, **settings: str) -> AsyncIterator[ServerProcess]:
    """A server whose model is that provider."""
    (directory / "config.yaml").write_text(PROVIDED.format(base_url=provider.base_url))
    defaults = {"LLM_PROVIDER": "", "OPENAI_API_KEY": "provider-key-for-tests"}
    async with server_process(directory, **(defaults | settings)) as server:
        yield server


async def follow(stub: AgentServiceAsyncStub) -> list[TaskEvent]:
    """The journaled events of a whole stream; it raises what it broke with."""
    request = StreamTaskRequest(run=RunTaskRequest(task="go"))
    events = [response.event async for response in stub.StreamTask(request, metadata=METADATA)]
    return [event for event in events if is_journaled(event)]


async def wait(stub: AgentServiceAsyncStub) -> str:
    """The answer to a call that hears nothing until its task has ended; it raises what it broke with."""
    response = await stub.RunTask(RunTaskRequest(task="go"), metadata=METADATA)
    return response.task.output


async def listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Wait until a proxy takes connections there."""
    async with asyncio.timeout(20):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    raise AssertionError("the proxy did not start")


def details_of(error: aio.AioRpcError) -> dict[type, Any]:
    """The details of an error by their type."""
    status = Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    found: dict[type, Any] = {}
    for packed in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(packed.value)
    return found

"""The asyncio client."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from agent_service.client.errors import CallError
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_pb2 import Agent
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Task
from agent_service.v1.tool_pb2 import Tool

LOOPBACK = ("localhost", "127.", "[::1]")
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class AsyncClient:
    """Talks to one service.

        async with AsyncClient("localhost:9000", api_key=key) as client:
            task = await client.run("What is 17.5% of 2340?")

    A client has one connection, on which the server admits 250 calls at once; more wait for their turn. All calls raise
    CallError. Cancelling a call, or leaving a stream, cancels its task.
    """

    def __init__(self, target: str, *, api_key: str = "") -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # A connection of its own: a server admits so many calls at once on each.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if target.startswith(LOOPBACK):
            # An http_proxy of the environment is not meant for this machine.
            options.append(("grpc.enable_http_proxy", 0))
        self._channel = aio.insecure_channel(target, options=options)
        self._stub: Any = AgentServiceStub(self._channel)
        self._metadata = (("x-api-key", api_key),) if api_key else ()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are canceled."""
        await self._channel.close()

    async def run(
        self, task: str, *, agent: str = "", timeout_s: float | None = None, labels: Mapping[str, str] | None = None
    ) -> Task:
        """Run a task to its end."""
        request = _run_request(task, agent, timeout_s, labels)
        with _call_errors():
            response: pb.RunTaskResponse = await self._stub.RunTask(request, metadata=self._metadata)
        return response.task

    async def stream(
        self, task: str, *, agent: str = "", timeout_s: float | None = None, labels: Mapping[str, str] | None = None
    ) -> AsyncGenerator[TaskEvent]:
        """Run a task and follow it, event by event. Leaving the loop early cancels the task; use `aclosing` then."""
        request = pb.StreamTaskRequest(run=_run_request(task, agent, timeout_s, labels))
        call = self._stub.StreamTask(request, metadata=self._metadata)
        try:
            with _call_errors():
                async for response in call:
                    yield response.event
        finally:
            # An abandoned call of grpc.aio is never cancelled by itself.
            call.cancel()

    async def get_task(self, task_id: str) -> Task:
        """A task as it stands."""
        with _call_errors():
            response: pb.GetTaskResponse = await self._stub.GetTask(
                pb.GetTaskRequest(task_id=task_id), metadata=self._metadata
            )
        return response.task

    async def invoke_tool(
        self, name: str, inputs: Mapping[str, Any] | str | None = None, *, timeout_s: float | None = None
    ) -> pb.ToolInvokeResponse:
        """Run one tool. `inputs` is a mapping, or the text of a JSON object."""
        text = inputs if isinstance(inputs, str) else json.dumps(dict(inputs or {}))
        request = pb.ToolInvokeRequest(tool_name=name, inputs_json=text, timeout=_duration(timeout_s))
        with _call_errors():
            response: pb.ToolInvokeResponse = await self._stub.ToolInvoke(request, metadata=self._metadata)
        return response

    async def list_agents(self) -> Sequence[Agent]:
        """The agents that the key may use."""
        with _call_errors():
            response: pb.ListAgentsResponse = await self._stub.ListAgents(
                pb.ListAgentsRequest(), metadata=self._metadata
            )
        return response.agents

    async def list_tools(self) -> Sequence[Tool]:
        """The tools that the key may use."""
        with _call_errors():
            response: pb.ListToolsResponse = await self._stub.ListTools(pb.ListToolsRequest(), metadata=self._metadata)
        return response.tools

    async def health(self, service: str = "", *, timeout_s: float = 5.0) -> str:
        """The status of a name of the health service: `SERVING`, `NOT_SERVING`."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        stub = health_pb2_grpc.HealthStub(self._channel)
        with _call_errors():
            response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
        return name


def _run_request(task: str, agent: str, timeout_s: float | None, labels: Mapping[str, str] | None) -> pb.RunTaskRequest:
    return pb.RunTaskRequest(task=task, agent=agent, timeout=_duration(timeout_s), labels=labels)


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


@contextmanager
def _call_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise CallError.of(error) from None

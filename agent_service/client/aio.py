"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Unpack

import grpc
from google.protobuf.message import Message

from agent_service.client.errors import CallError
from agent_service.client.following import Patience, answered, followed, settles
from agent_service.client.requests import RunOptions, UsageOptions, run_request, tool_request, usage_request
from agent_service.client.tls import Tls, channel
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_pb2 import Agent
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import ON_DISCONNECT_DETACH, InputAnswer, Task, TaskState
from agent_service.v1.tool_pb2 import Tool

SERVICE = "agent_service.v1.AgentService"
LOOPBACK = ("localhost", "127.", "[::1]")
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
# How long a call is tried again while the server cannot be reached or restarts.
PATIENCE_S = 60.0
# A server that does not answer a ping in time is gone, however its machine went. Ours allow one every 10 s.
PING_EVERY_S = 30.0
PING_TIMEOUT_S = 10.0
# How long a task that is left is given to hear of it.
LEAVE_S = 2.0


class AsyncClient:
    """Talks to one service.

        async with AsyncClient("localhost:9000", api_key=key) as client:
            task = await client.run("What is 17.5% of 2340?")

    A client has two connections, made when they are needed: one for calls that wait for tasks, of which the server
    admits 250 at once (more wait for their turn), and one for the rest, so that a cancel never waits behind them. All
    calls raise CallError. Cancelling a call, or leaving a stream, cancels its task unless it is `detached`.

    A task or tool call that is interrupted because its server shuts down, or is away after it has been there, is taken
    up again for up to `patience_s` seconds, under the same request_id: nothing is run twice, no event is seen twice.
    A refusal of new work, such as RATE_LIMITED_CALLS or OVERLOADED, is raised at once, with `retry_after_s`.
    """

    def __init__(
        self, target: str, *, api_key: str = "", tls: Tls | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # A connection of its own: a server admits so many calls at once on each.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", round(PING_EVERY_S * 1000)),
            ("grpc.keepalive_timeout_ms", round(PING_TIMEOUT_S * 1000)),
            ("grpc.http2.ping_timeout_ms", round(PING_TIMEOUT_S * 1000)),
            # Else, after two pings, one a minute: a call that waits for a task hears nothing for long.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if target.startswith(LOOPBACK):
            # An http_proxy of the environment is not meant for this machine.
            options.append(("grpc.enable_http_proxy", 0))
        self._channel = channel(target, tls, options)
        self._side_channel = channel(target, tls, options)
        self._stub: Any = AgentServiceStub(self._channel)
        self._side_stub: Any = AgentServiceStub(self._side_channel)
        self._run_task = self._early("RunTask", pb.RunTaskRequest, pb.RunTaskResponse)
        self._tool_invoke = self._early("ToolInvoke", pb.ToolInvokeRequest, pb.ToolInvokeResponse)
        self._metadata = (("x-api-key", api_key),) if api_key else ()
        self._patience_s = patience_s
        self._was_there = False

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls under way are canceled."""
        await self._channel.close()
        await self._side_channel.close()

    async def run(self, task: str, **options: Unpack[RunOptions]) -> Task:
        """Run a task until it has ended or waits for input."""
        request = run_request(task, **options)
        response: pb.RunTaskResponse = await self._attended(self._run_task, request)
        return response.task

    async def stream(self, task: str, **options: Unpack[RunOptions]) -> AsyncGenerator[TaskEvent]:
        """Run a task and follow it, event by event. Leaving the loop early cancels the task; use `aclosing` then."""
        request = pb.StreamTaskRequest(run=run_request(task, **options))
        is_detached = options.get("detached", False)

        def from_the_start(_: int) -> AsyncGenerator[TaskEvent]:
            # What was seen before comes again, and is left out.
            return self._events(self._stub.StreamTask, request, attends=not is_detached)

        async with aclosing(followed(from_the_start, 0, self._patience())) as events:
            async for event in events:
                yield event

    async def submit(self, task: str, **options: Unpack[RunOptions]) -> Task:
        """Have a task accepted, to run by itself."""
        request = pb.SubmitTaskRequest(run=run_request(task, **options))
        response: pb.SubmitTaskResponse = await self._safe(self._side_stub.SubmitTask, request)
        return response.task

    async def watch(self, task_id: str, *, after_sequence: int = 0) -> AsyncGenerator[TaskEvent]:
        """Follow a task from anywhere in it, until it has ended or waits for input. Leaving changes nothing."""

        def from_there(sequence: int) -> AsyncGenerator[TaskEvent]:
            return self._events(self._stub.WatchTask, pb.WatchTaskRequest(task_id=task_id, after_sequence=sequence))

        async with aclosing(followed(from_there, after_sequence, self._patience())) as events:
            async for event in events:
                yield event

    async def get_task(self, task_id: str) -> Task:
        """A task as it stands."""
        response: pb.GetTaskResponse = await self._safe(self._side_stub.GetTask, pb.GetTaskRequest(task_id=task_id))
        return response.task

    async def list_tasks(
        self,
        *,
        agent: str = "",
        states: Sequence[TaskState.ValueType] = (),
        session_id: str = "",
        labels: Mapping[str, str] | None = None,
        full: bool = False,
        page_size: int = 0,
        page_token: str = "",
    ) -> pb.ListTasksResponse:
        """A page of tasks, newest first; with `full` the texts too. `next_page_token` leads to the next page."""
        request = pb.ListTasksRequest(
            agent=agent,
            states=states,
            session_id=session_id,
            labels=labels,
            view=pb.TASK_VIEW_FULL if full else pb.TASK_VIEW_BASIC,
            page_size=page_size,
            page_token=page_token,
        )
        response: pb.ListTasksResponse = await self._safe(self._side_stub.ListTasks, request)
        return response

    async def cancel(self, task_id: str) -> Task:
        """Stop a task for good."""
        response: pb.CancelTaskResponse = await self._safe(
            self._side_stub.CancelTask, pb.CancelTaskRequest(task_id=task_id)
        )
        return response.task

    async def resume(self, task_id: str, input_id: str, answer: InputAnswer) -> Task:
        """Answer one of a task's pending inputs: with `approve()`, `deny()`, `run_again()`, `result()`, `failure()`,
        `reply()`.
        """
        request = pb.ResumeTaskRequest(task_id=task_id, input_id=input_id, answer=answer)
        response: pb.ResumeTaskResponse = await self._safe(self._side_stub.ResumeTask, request)
        return response.task

    async def delete_task(self, task_id: str) -> None:
        """Erase a task that has ended."""
        await self._call(self._side_stub.DeleteTask, pb.DeleteTaskRequest(task_id=task_id))

    async def delete_session(self, session_id: str) -> int:
        """Erase a session with all of its tasks; how many."""
        request = pb.DeleteSessionRequest(session_id=session_id)
        response: pb.DeleteSessionResponse = await self._call(self._side_stub.DeleteSession, request)
        return response.tasks_deleted

    async def invoke_tool(
        self,
        name: str,
        inputs: Mapping[str, Any] | str | None = None,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> pb.ToolInvokeResponse:
        """Run one tool. `inputs` is a mapping, or the text of a JSON object."""
        request = tool_request(name, inputs, timeout_s, request_id)
        response: pb.ToolInvokeResponse = await self._attended(self._tool_invoke, request)
        return response

    async def list_agents(self) -> Sequence[Agent]:
        """The agents that the key may use."""
        response: pb.ListAgentsResponse = await self._safe(self._side_stub.ListAgents, pb.ListAgentsRequest())
        return response.agents

    async def list_tools(self) -> Sequence[Tool]:
        """The tools that the key may use."""
        response: pb.ListToolsResponse = await self._safe(self._side_stub.ListTools, pb.ListToolsRequest())
        return response.tools

    async def get_usage(self, **wanted: Unpack[UsageOptions]) -> Sequence[pb.UsageRow]:
        """What was used, summed up by time and `by`; of the key's own tenant where none is named."""
        response: pb.GetUsageResponse = await self._call(self._stub.GetUsage, usage_request(**wanted))
        return response.rows

    async def health(self, service: str = "", *, timeout_s: float = 5.0) -> str:
        """The status of a name of the health service: `SERVING`, `NOT_SERVING`."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        stub = health_pb2_grpc.HealthStub(self._side_channel)
        with self._call_errors():
            response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
        return name

    def _early(self, name: str, request: type[Message], response: type[Message]) -> Any:
        """A unary method whose headers, which tell the task's id, are shown as soon as they are there.

        grpc.aio shows those of a unary call with its answer; on the wire there is no difference.
        """
        path = f"/{SERVICE}/{name}"
        return self._channel.unary_stream(path, request.SerializeToString, response.FromString)

    async def _call(self, method: Any, request: Any) -> Any:
        with self._call_errors():
            return await method(request, metadata=self._metadata)

    def _safe(self, method: Any, request: Any) -> Awaitable[Any]:
        """A call that does the same when it is made again."""
        return answered(lambda: self._call(method, request), self._patience())

    def _patience(self) -> Patience:
        """A server that was never reached is not there, rather than away for a while."""
        return Patience(self._patience_s, lambda: self._was_there)

    async def _attended(self, method: Any, request: Any) -> Any:
        """A call that a task depends on: if we are cancelled, the task is too."""
        is_detached = isinstance(request, pb.RunTaskRequest) and request.on_disconnect == ON_DISCONNECT_DETACH

        async def once() -> Any:
            call = method(request, metadata=self._metadata)
            # As in `_events`.
            reading = asyncio.ensure_future(anext(aiter(call)))
            # Where we are cancelled nobody else looks at what came of it.
            reading.add_done_callback(_heed)
            try:
                with self._call_errors():
                    return await asyncio.shield(reading)
            except asyncio.CancelledError:
                if not is_detached:
                    await self._leave(call)
                raise
            finally:
                reading.cancel()
                call.cancel()

        return await answered(once, self._patience())

    async def _events(self, method: Any, request: Any, *, attends: bool = False) -> AsyncGenerator[TaskEvent]:
        call = method(request, metadata=self._metadata)
        is_settled = False
        try:
            with self._call_errors():
                if attends:
                    # Cancelled while it is read, a call is gone before it has told the task's id.
                    await asyncio.shield(asyncio.ensure_future(call.initial_metadata()))
                async for response in call:
                    is_settled = settles(response.event)
                    yield response.event
        except (GeneratorExit, asyncio.CancelledError):
            if attends and not is_settled:
                await self._leave(call)
            raise
        finally:
            # An abandoned call of grpc.aio is never cancelled by itself.
            call.cancel()

    @contextmanager
    def _call_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            refused = CallError.of(error)
            self._was_there = self._was_there or not refused.is_unreachable
            raise refused from None
        self._was_there = True

    async def _leave(self, call: Any) -> None:
        """Nobody waits for the call's task any more. The server finds out by itself too, a little later."""
        with suppress(CallError, TimeoutError, grpc.RpcError):
            async with asyncio.timeout(LEAVE_S):
                task_id = dict(await call.initial_metadata()).get("x-task-id", "")
                if task_id:
                    await self._call(self._side_stub.CancelTask, pb.CancelTaskRequest(task_id=task_id))


def _heed(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()

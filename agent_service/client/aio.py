"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Unpack

import grpc
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from agent_service.client.channel import SERVICE, channel_options
from agent_service.client.errors import CallError
from agent_service.client.following import Patience, answered, followed, settles
from agent_service.client.key import key_metadata
from agent_service.client.requests import RunOptions, UsageOptions, run_request, tool_request, usage_request
from agent_service.client.tls import Tls, channel
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_pb2 import Agent
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import ON_DISCONNECT_DETACH, InputAnswer, Task, TaskState
from agent_service.v1.tool_pb2 import Tool

# The time during which a call is retried while the server is unreachable or restarts.
PATIENCE_S = 60.0
# The hint if no connection could be made: the same text in every client.
HINT = " (is a server running at {target}? AGENT_SERVICE_TARGET names the address that commands and examples call)"
# The time for sending the cancel of a task whose stream was left.
LEAVE_S = 2.0
# The health service's messages have one field each: on the wire they are a StringValue and an Int32Value.
HEALTH = {1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class AsyncClient:
    """A client of one service.

        async with AsyncClient("localhost:9000", api_key=key) as client:
            task = await client.run("What is 17.5% of 2340?")

    `target` is `host:port`, or `dns:///host:port` for a name of several servers, which are used round robin. White
    space around `api_key` is removed; a key with characters that no header can carry raises CallError here.

    A client has two connections, opened on demand: one for calls that wait for tasks, of which the server admits 250 at
    once (further calls wait), and one for the rest, so that a cancel never waits behind them. All calls raise
    CallError. Cancelling a call, or leaving a stream, cancels its task unless it is `detached`.

    A task or tool call that is interrupted because its server shuts down, or becomes unreachable after it was
    reachable, is resumed for up to `patience_s` seconds under the same request_id: nothing runs twice, no event is seen
    twice. A refusal of new work, such as RATE_LIMITED_CALLS or OVERLOADED, is raised at once, with `retry_after_s`.

    Every call takes `deadline_s`, after which it ends as DEADLINE_EXCEEDED, independent of the number of retries. A
    task that depends on the call ends slightly before it, so that its end is seen.
    """

    def __init__(
        self, target: str, *, api_key: str = "", tls: Tls | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._metadata = key_metadata(api_key)
        self._target = target
        options = channel_options(target)
        self._channel = channel(target, tls, options)
        self._side_channel = channel(target, tls, options)
        self._stub: Any = AgentServiceStub(self._channel)
        self._side_stub: Any = AgentServiceStub(self._side_channel)
        self._run_task = self._early("RunTask", pb.RunTaskRequest, pb.RunTaskResponse)
        self._tool_invoke = self._early("ToolInvoke", pb.ToolInvokeRequest, pb.ToolInvokeResponse)
        self._check = self._side_channel.unary_unary(
            "/grpc.health.v1.Health/Check", StringValue.SerializeToString, Int32Value.FromString
        )
        self._patience_s = patience_s
        self._was_there = False

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; open calls are cancelled."""
        await self._channel.close()
        await self._side_channel.close()

    async def run(self, task: str, *, deadline_s: float | None = None, **options: Unpack[RunOptions]) -> Task:
        """Run a task until it ends or waits for input."""
        request = run_request(task, **options)
        response: pb.RunTaskResponse = await self._attached(self._run_task, request, deadline_s)
        return response.task

    async def stream(
        self, task: str, *, deadline_s: float | None = None, **options: Unpack[RunOptions]
    ) -> AsyncGenerator[TaskEvent]:
        """Run a task and yield its events. Leaving the loop early cancels the task; use `aclosing` in that case."""
        request = pb.StreamTaskRequest(run=run_request(task, **options))
        is_detached = options.get("detached", False)
        patience = self._patience(deadline_s)

        def from_the_start(_: int) -> AsyncGenerator[TaskEvent]:
            # Events that were seen before arrive again, and are skipped.
            return self._events(self._stub.StreamTask, request, patience, attends=not is_detached)

        async with aclosing(followed(from_the_start, 0, patience)) as events:
            async for event in events:
                yield event

    async def submit(self, task: str, *, deadline_s: float | None = None, **options: Unpack[RunOptions]) -> Task:
        """Submit a task that runs independently of the caller."""
        request = pb.SubmitTaskRequest(run=run_request(task, **options))
        response: pb.SubmitTaskResponse = await self._safe(self._side_stub.SubmitTask, request, deadline_s)
        return response.task

    async def watch(
        self, task_id: str, *, after_sequence: int = 0, deadline_s: float | None = None
    ) -> AsyncGenerator[TaskEvent]:
        """Yield a task's events from any position, until it ends or waits for input. Leaving does not affect the
        task.
        """
        patience = self._patience(deadline_s)

        def from_there(sequence: int) -> AsyncGenerator[TaskEvent]:
            request = pb.WatchTaskRequest(task_id=task_id, after_sequence=sequence)
            return self._events(self._stub.WatchTask, request, patience)

        async with aclosing(followed(from_there, after_sequence, patience)) as events:
            async for event in events:
                yield event

    async def get_task(self, task_id: str, *, deadline_s: float | None = None) -> Task:
        """Return the current state of a task."""
        request = pb.GetTaskRequest(task_id=task_id)
        response: pb.GetTaskResponse = await self._safe(self._side_stub.GetTask, request, deadline_s)
        return response.task

    async def list_tasks(
        self,
        *,
        agent: str = "",
        states: Sequence[TaskState.ValueType] = (),
        session_id: str = "",
        labels: Mapping[str, str] | None = None,
        submitted_by: str = "",
        tenant: str = "",
        full: bool = False,
        page_size: int = 0,
        page_token: str = "",
        deadline_s: float | None = None,
    ) -> pb.ListTasksResponse:
        """Return a page of tasks, newest first; with `full` also their texts. `next_page_token` requests the next page.
        `submitted_by` is the id of a key; another `tenant` than the key's, or `*` for all, requires the scope admin.
        """
        request = pb.ListTasksRequest(
            agent=agent,
            states=states,
            session_id=session_id,
            labels=labels,
            submitted_by=submitted_by,
            tenant=tenant,
            view=pb.TASK_VIEW_FULL if full else pb.TASK_VIEW_BASIC,
            page_size=page_size,
            page_token=page_token,
        )
        response: pb.ListTasksResponse = await self._safe(self._side_stub.ListTasks, request, deadline_s)
        return response

    async def cancel(self, task_id: str, *, deadline_s: float | None = None) -> Task:
        """Cancel a task."""
        request = pb.CancelTaskRequest(task_id=task_id)
        response: pb.CancelTaskResponse = await self._safe(self._side_stub.CancelTask, request, deadline_s)
        return response.task

    async def resume(
        self, task_id: str, input_id: str, answer: InputAnswer, *, deadline_s: float | None = None
    ) -> Task:
        """Answer one of a task's pending inputs: with `approve()`, `deny()`, `run_again()`, `result()`, `failure()`,
        `reply()`.
        """
        request = pb.ResumeTaskRequest(task_id=task_id, input_id=input_id, answer=answer)
        response: pb.ResumeTaskResponse = await self._safe(self._side_stub.ResumeTask, request, deadline_s)
        return response.task

    async def delete_task(self, task_id: str, *, deadline_s: float | None = None) -> None:
        """Delete a task that has ended."""
        await self._call(self._side_stub.DeleteTask, pb.DeleteTaskRequest(task_id=task_id), deadline_s)

    async def delete_session(self, session_id: str, *, deadline_s: float | None = None) -> int:
        """Delete a session with all of its tasks; return the number of tasks."""
        request = pb.DeleteSessionRequest(session_id=session_id)
        response: pb.DeleteSessionResponse = await self._call(self._side_stub.DeleteSession, request, deadline_s)
        return response.tasks_deleted

    async def invoke_tool(
        self,
        name: str,
        inputs: Mapping[str, Any] | str | None = None,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        deadline_s: float | None = None,
    ) -> pb.ToolInvokeResponse:
        """Run one tool. `inputs` is a mapping, or the text of a JSON object."""
        request = tool_request(name, inputs, timeout_s, request_id)
        response: pb.ToolInvokeResponse = await self._attached(self._tool_invoke, request, deadline_s)
        return response

    async def list_agents(self, *, deadline_s: float | None = None) -> Sequence[Agent]:
        """Return the agents that the key may use."""
        request = pb.ListAgentsRequest()
        response: pb.ListAgentsResponse = await self._safe(self._side_stub.ListAgents, request, deadline_s)
        return response.agents

    async def list_tools(self, *, deadline_s: float | None = None) -> Sequence[Tool]:
        """Return the tools that the key may use."""
        request = pb.ListToolsRequest()
        response: pb.ListToolsResponse = await self._safe(self._side_stub.ListTools, request, deadline_s)
        return response.tools

    async def get_usage(
        self, *, deadline_s: float | None = None, **wanted: Unpack[UsageOptions]
    ) -> Sequence[pb.UsageRow]:
        """Return the usage, summed up by time and `by`; of the key's own tenant if none is named."""
        request = usage_request(**wanted)
        response: pb.GetUsageResponse = await self._safe(self._side_stub.GetUsage, request, deadline_s)
        return response.rows

    async def health(self, service: str = "", *, deadline_s: float = 5.0) -> str:
        """Return the status of a name of the health service: `SERVING`, `NOT_SERVING`."""
        with self._call_errors():
            status: Int32Value = await self._check(StringValue(value=service), timeout=deadline_s)
        return HEALTH.get(status.value, "UNKNOWN")

    def _early(self, name: str, request: type[Message], response: type[Message]) -> Any:
        """Return a unary method whose headers, which have the task's id, are available as soon as they arrive.

        grpc.aio exposes the headers of a unary call only with its answer; on the wire there is no difference.
        """
        path = f"/{SERVICE.full_name}/{name}"
        return self._channel.unary_stream(path, request.SerializeToString, response.FromString)

    async def _call(self, method: Any, request: Any, deadline_s: float | None) -> Any:
        with self._call_errors():
            return await method(request, metadata=self._metadata, timeout=deadline_s)

    def _safe(self, method: Any, request: Any, deadline_s: float | None) -> Awaitable[Any]:
        """Make a call that may be repeated safely."""
        patience = self._patience(deadline_s)
        return answered(lambda: self._call(method, request, patience.left_s()), patience)

    def _patience(self, deadline_s: float | None) -> Patience:
        """Return the retries of a call; a server that was never reached counts as absent, not unreachable."""
        return Patience(self._patience_s, lambda: self._was_there, deadline_s=deadline_s)

    async def _attached(self, method: Any, request: Any, deadline_s: float | None) -> Any:
        """Make a call that a task depends on: if this call is cancelled, the task is too."""
        is_detached = isinstance(request, pb.RunTaskRequest) and request.on_disconnect == ON_DISCONNECT_DETACH
        patience = self._patience(deadline_s)

        async def once() -> Any:
            call = method(request, metadata=self._metadata, timeout=patience.left_s())
            # As in `_events`.
            reading = asyncio.ensure_future(anext(aiter(call)))
            # If this is cancelled, the result must still be retrieved, or asyncio logs it.
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

        return await answered(once, patience)

    async def _events(
        self, method: Any, request: Any, patience: Patience, *, attends: bool = False
    ) -> AsyncGenerator[TaskEvent]:
        call = method(request, metadata=self._metadata, timeout=patience.left_s())
        is_settled = False
        try:
            with self._call_errors():
                if attends:
                    # A call that is cancelled during this read would end before the task's id is known.
                    await asyncio.shield(asyncio.ensure_future(call.initial_metadata()))
                async for response in call:
                    is_settled = settles(response.event)
                    yield response.event
        except (GeneratorExit, asyncio.CancelledError):
            if attends and not is_settled:
                await self._leave(call)
            raise
        finally:
            # grpc.aio does not cancel an abandoned call.
            call.cancel()

    @contextmanager
    def _call_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            refused = CallError.of(error)
            if refused.is_unreachable:
                refused.message += HINT.format(target=self._target)
            self._was_there = self._was_there or not refused.is_unreachable
            raise refused from None
        self._was_there = True

    async def _leave(self, call: Any) -> None:
        """Cancel the task of an abandoned call. The server would detect this slightly later."""
        with suppress(CallError, TimeoutError, grpc.RpcError):
            async with asyncio.timeout(LEAVE_S):
                task_id = dict(await call.initial_metadata()).get("x-task-id", "")
                if task_id:
                    await self._call(self._side_stub.CancelTask, pb.CancelTaskRequest(task_id=task_id), LEAVE_S)


def _heed(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()

"""AgentService on the wire: decode, validate, call the service, encode. No logic of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from agent_service.errors import FieldViolation, ValidationError
from agent_service.feed.frame import Frame
from agent_service.observe.trace import current_span
from agent_service.server.call import Call
from agent_service.server.convert.commands import checked_id, list_tasks_input, resume_task_input
from agent_service.server.convert.tasks import json_to_value, run_task_input, tool_invoke_input
from agent_service.server.convert.usage import usage_input, usage_response
from agent_service.server.handlers import Frames
from agent_service.service.accepted import Accepted
from agent_service.service.requests import RunTaskInput
from agent_service.service.service import Service
from agent_service.v1 import agent_service_pb2 as pb


class AgentServicer:
    """One method for each RPC, named as in the contract: from `(request, call)` to a response or a stream of frames."""

    def __init__(self, service: Service, run_input: type[RunTaskInput]) -> None:
        self._tasks = service.tasks
        self._runtimes = service.runtimes
        self._reader = service.reader
        self._watcher = service.watcher
        self._commands = service.commands
        self._usage = service.usage
        self._run_input = run_input

    async def RunTask(self, request: pb.RunTaskRequest, call: Call) -> pb.RunTaskResponse:
        run = run_task_input(self._run_input, request)
        call.idempotency_key = run.request_id
        prepared = self._tasks.prepare(call.caller, run, caller_left_s=call.left_s())
        folded = await self._tasks.run(prepared, partial(_send_accepted, call))
        return pb.RunTaskResponse(task=folded.task)

    def StreamTask(self, request: pb.StreamTaskRequest, call: Call) -> Frames:
        run = self._wrapped(request, call)
        prepared = self._tasks.prepare(call.caller, run, caller_left_s=call.left_s())
        return self._tasks.stream(prepared, partial(_send_accepted, call), call.outlet())

    async def SubmitTask(self, request: pb.SubmitTaskRequest, call: Call) -> pb.SubmitTaskResponse:
        run = self._wrapped(request, call)
        prepared = self._tasks.prepare(call.caller, run, caller_left_s=None, detached=True)
        task = await self._tasks.submit(prepared, partial(_send_accepted, call))
        return pb.SubmitTaskResponse(task=task)

    @asynccontextmanager
    async def WatchTask(self, request: pb.WatchTaskRequest, call: Call) -> AsyncIterator[AsyncIterator[Frame]]:
        if request.after_sequence < 0:
            raise ValidationError([FieldViolation("after_sequence", "must not be negative")])
        await self._reader.find(call.caller, request.task_id)
        await call.send_initial_metadata(request.task_id)
        async with self._watcher.watch(request.task_id, request.after_sequence, call.outlet()) as frames:
            yield frames

    async def GetTask(self, request: pb.GetTaskRequest, call: Call) -> pb.GetTaskResponse:
        return pb.GetTaskResponse(task=await self._reader.get(call.caller, request.task_id))

    async def ListTasks(self, request: pb.ListTasksRequest, call: Call) -> pb.ListTasksResponse:
        tasks, token = await self._reader.list_tasks(call.caller, list_tasks_input(request))
        return pb.ListTasksResponse(tasks=tasks, next_page_token=token)

    async def CancelTask(self, request: pb.CancelTaskRequest, call: Call) -> pb.CancelTaskResponse:
        return pb.CancelTaskResponse(task=await self._commands.cancel(call.caller, request.task_id))

    async def ResumeTask(self, request: pb.ResumeTaskRequest, call: Call) -> pb.ResumeTaskResponse:
        input_id, answer = resume_task_input(request)
        return pb.ResumeTaskResponse(task=await self._commands.resume(call.caller, request.task_id, input_id, answer))

    async def DeleteTask(self, request: pb.DeleteTaskRequest, call: Call) -> pb.DeleteTaskResponse:
        await self._commands.delete(call.caller, request.task_id)
        return pb.DeleteTaskResponse()

    async def DeleteSession(self, request: pb.DeleteSessionRequest, call: Call) -> pb.DeleteSessionResponse:
        session_id = checked_id("session_id", request.session_id)
        return pb.DeleteSessionResponse(tasks_deleted=await self._commands.delete_session(call.caller, session_id))

    async def ToolInvoke(self, request: pb.ToolInvokeRequest, call: Call) -> pb.ToolInvokeResponse:
        invoke = tool_invoke_input(request)
        call.idempotency_key = invoke.request_id
        prepared = self._tasks.prepare_tool(call.caller, invoke, caller_left_s=call.left_s())
        folded = await self._tasks.run(prepared, partial(_send_accepted, call))
        response = pb.ToolInvokeResponse(task_id=folded.task.id)
        for finished in folded.agent_state.results.values():
            response.duration.CopyFrom(finished.duration)
            response.truncated = finished.truncated
            if finished.HasField("error"):
                response.error.CopyFrom(finished.error)
            else:
                response.output.CopyFrom(json_to_value(finished.output_json))
        if response.WhichOneof("outcome") is None:
            response.error.CopyFrom(folded.task.failure)
        return response

    async def ListAgents(self, request: pb.ListAgentsRequest, call: Call) -> pb.ListAgentsResponse:
        return pb.ListAgentsResponse(agents=self._runtimes.catalog.list_agents(call.caller))

    async def ListTools(self, request: pb.ListToolsRequest, call: Call) -> pb.ListToolsResponse:
        return pb.ListToolsResponse(tools=self._runtimes.catalog.list_tools(call.caller))

    async def GetUsage(self, request: pb.GetUsageRequest, call: Call) -> pb.GetUsageResponse:
        wanted = usage_input(request)
        return usage_response(await self._usage.usage(call.caller, wanted), wanted)

    def _wrapped(self, request: pb.StreamTaskRequest | pb.SubmitTaskRequest, call: Call) -> RunTaskInput:
        if not request.HasField("run"):
            raise ValidationError([FieldViolation("run", "is required")])
        run = run_task_input(self._run_input, request.run, prefix="run.")
        call.idempotency_key = run.request_id
        return run


async def _send_accepted(call: Call, accepted: Accepted) -> None:
    """Send the headers of the reply as soon as the task is stored."""
    # A link, because another call may have submitted the task.
    current_span().link(accepted.submitted.traceparent)
    call.limited_by(accepted.limit)
    await call.send_initial_metadata(accepted.task_id)

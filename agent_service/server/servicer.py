"""AgentService on the wire: decode, validate, call the service, encode. No logic of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from agent_service.errors import FieldViolation, ValidationError
from agent_service.server.call import Call
from agent_service.server.convert import json_to_value, run_task_input, tool_invoke_input
from agent_service.service.requests import RunTaskInput
from agent_service.service.tasks import TaskService, attended
from agent_service.v1 import agent_service_pb2 as pb


class AgentServicer:
    """One method for each RPC, named as in the contract: `(request, call)` to a response, or to several."""

    def __init__(self, tasks: TaskService, run_input: type[RunTaskInput]) -> None:
        self._tasks = tasks
        self._run_input = run_input

    async def RunTask(self, request: pb.RunTaskRequest, call: Call) -> pb.RunTaskResponse:
        run = run_task_input(self._run_input, request)
        running = await self._tasks.submit(call.caller, run, caller_left_s=call.left_s())
        with attended(running):
            await running.accepted()
            await call.send_initial_metadata(running.task_id)
            return pb.RunTaskResponse(task=await self._tasks.finish(running))

    async def StreamTask(self, request: pb.StreamTaskRequest, call: Call) -> AsyncIterator[pb.StreamTaskResponse]:
        if not request.HasField("run"):
            raise ValidationError([FieldViolation("run", "is required")])
        run = run_task_input(self._run_input, request.run, prefix="run.")
        running = await self._tasks.submit(call.caller, run, caller_left_s=call.left_s())
        with attended(running):
            async with aclosing(self._tasks.follow(running)) as events:
                async for event in events:
                    if not call.task_id:
                        await call.send_initial_metadata(running.task_id)
                    yield pb.StreamTaskResponse(event=event)

    async def GetTask(self, request: pb.GetTaskRequest, call: Call) -> pb.GetTaskResponse:
        return pb.GetTaskResponse(task=await self._tasks.get(call.caller, request.task_id))

    async def ToolInvoke(self, request: pb.ToolInvokeRequest, call: Call) -> pb.ToolInvokeResponse:
        invoke = tool_invoke_input(request)
        running = await self._tasks.invoke_tool(call.caller, invoke, caller_left_s=call.left_s())
        with attended(running):
            await running.accepted()
            await call.send_initial_metadata(running.task_id)
            task = await self._tasks.finish(running)
        response = pb.ToolInvokeResponse(task_id=task.id)
        for finished in running.folded.agent_state.results.values():
            response.duration.CopyFrom(finished.duration)
            response.truncated = finished.truncated
            if finished.HasField("error"):
                response.error.CopyFrom(finished.error)
            else:
                response.output.CopyFrom(json_to_value(finished.output_json))
        if response.WhichOneof("outcome") is None:
            response.error.CopyFrom(task.failure)
        return response

    async def ListAgents(self, request: pb.ListAgentsRequest, call: Call) -> pb.ListAgentsResponse:
        return pb.ListAgentsResponse(agents=self._tasks.catalog.list_agents(call.caller))

    async def ListTools(self, request: pb.ListToolsRequest, call: Call) -> pb.ListToolsResponse:
        return pb.ListToolsResponse(tools=self._tasks.catalog.list_tools(call.caller))

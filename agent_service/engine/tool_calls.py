"""Runs the tool calls of one turn, side by side, and journals what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from google.protobuf.duration_pb2 import Duration

from agent_service.engine.journal import TaskJournal
from agent_service.engine.runtime import AgentRuntime, Ports
from agent_service.errors import ToolError
from agent_service.tools.base import Tool, ToolContext
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_FAILED, ERROR_REASON_TOOL_OUTCOME_UNKNOWN
from agent_service.v1.task_event_pb2 import TaskEvent, ToolFinished, ToolStarted
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING, ToolCall


class ToolCalls:
    """The calls of one task. A call that fails is a value for the model; nothing here fails the task.

    `is_let_go` says, when the calls are cancelled, whether another attempt will go on with the task.
    """

    def __init__(
        self,
        journal: TaskJournal,
        runtime: AgentRuntime,
        ports: Ports,
        deadline: float,
        is_let_go: Callable[[], bool],
    ) -> None:
        self._journal = journal
        self._runtime = runtime
        self._ports = ports
        self._deadline = deadline
        self._is_let_go = is_let_go
        self._slots = asyncio.Semaphore(journal.folded.submitted.limits.parallel_tools)

    async def run(self, calls: Sequence[ToolCall]) -> None:
        """Run them all; return when each has its result or its error."""
        if len(calls) == 1:
            await self._call(calls[0])
            return
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._call_in_slot(call))
        except BaseExceptionGroup as errors:
            # One is enough to end the attempt: the journal was taken over, or an adapter has a bug.
            raise errors.exceptions[0] from None

    async def _call_in_slot(self, call: ToolCall) -> None:
        async with self._slots:
            await self._call(call)

    async def _call(self, call: ToolCall) -> None:
        tool = self._runtime.tools.get(call.name)
        if tool is None:
            known = ", ".join(sorted(self._runtime.tools)) or "none"
            self._finish(call, ToolFinished(error=ToolError(f"there is no such tool; tools: {known}").as_failure()))
            return
        try:
            arguments = tool.parse(call.arguments_json)
        except ToolError as error:
            self._finish(call, ToolFinished(error=error.as_failure()))
            return
        started = ToolStarted(tool_call_id=call.id, name=call.name, side_effect=tool.side_effect)
        self._journal.write(TaskEvent(tool_started=started))
        changes_the_world = tool.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING
        if changes_the_world:
            await self._journal.sync()
        else:
            self._journal.flush_soon()
        loop = asyncio.get_running_loop()
        began = loop.time()
        context = ToolContext(self._journal.folded.submitted.tenant, self._journal.task_id, call.id)
        try:
            result = await self._ports.tools.run(tool, arguments, context, timeout_s=self._deadline - began)
            finished = ToolFinished(output_json=result.output_json, truncated=result.truncated)
        except ToolError as error:
            finished = ToolFinished(error=error.as_failure())
        except asyncio.CancelledError:
            # What may run again is left open for the next attempt, as a crash would leave it.
            if changes_the_world or not self._is_let_go():
                stopped = _stopped(tool).as_failure()
                self._finish(call, ToolFinished(error=stopped, duration=_duration(loop.time() - began)))
            raise
        finished.duration.CopyFrom(_duration(loop.time() - began))
        self._finish(call, finished)
        if changes_the_world:
            self._journal.flush()

    def _finish(self, call: ToolCall, finished: ToolFinished) -> None:
        finished.tool_call_id = call.id
        self._journal.write(TaskEvent(tool_finished=finished))


def _stopped(tool: Tool) -> ToolError:
    """What a call that was stopped half-way is known to have done."""
    if tool.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING:
        message = "the task was stopped while the tool ran: whether it took effect is unknown"
        return ToolError(message, reason=ERROR_REASON_TOOL_OUTCOME_UNKNOWN)
    return ToolError("the task was stopped while the tool ran", reason=ERROR_REASON_TOOL_FAILED)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))

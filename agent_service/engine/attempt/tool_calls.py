"""Runs the tool calls of one turn in parallel, and journals the result of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from agent_service.engine.attempt.spans import begin_tool, end_tool
from agent_service.engine.attempt.stop import Stop
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.runtime import AgentRuntime, Drain, DrainedError, Telemetry
from agent_service.engine.task.inputs import approval_of, outcome_of
from agent_service.errors import ToolError, reason_name
from agent_service.observe.metrics import UNKNOWN
from agent_service.observe.trace import current_span
from agent_service.schemas.call_arguments import meant
from agent_service.text.times import duration, set_seconds
from agent_service.tools.base import Tool, ToolContext
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import (
    FINISH_REASON_STOP,
    FINISH_REASON_TOOL_CALLS,
    TaskEvent,
    ToolFinished,
)
from agent_service.v1.task_pb2 import PendingInput
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING, ToolCall

# Finish reasons of complete replies: only their calls may run.
_WHOLE = frozenset({FINISH_REASON_STOP, FINISH_REASON_TOOL_CALLS})
CUT_OFF = "the reply was cut off before it was whole, so this call was not run; call again, with fewer words or calls"


class _Ready(NamedTuple):
    """A call of an existing tool, with valid arguments."""

    call: ToolCall
    tool: Tool
    arguments: dict[str, Any]
    changes_the_world: bool


class ToolCalls:
    """The calls of one turn. A failed call is a result for the model; it does not fail the task.

    If the calls are cancelled, `stop` tells a release from a cancellation of the task.
    """

    def __init__(
        self,
        journal: JournalWriter,
        runtime: AgentRuntime,
        drain: Drain,
        telemetry: Telemetry,
        deadline: float,
        stop: Stop,
    ) -> None:
        self._journal = journal
        self._folded = journal.folded
        self._runtime = runtime
        self._drain = drain
        self._telemetry = telemetry
        self._deadline = deadline
        self._stop = stop
        self._is_held_back = False

    async def run(self, calls: Sequence[ToolCall]) -> list[PendingInput]:
        """Run the calls that may run, each to its result or error. Return the inputs that the others wait for.

        Raises:
            DrainedError: some calls were not started, because the process stops before they could finish.
        """
        reply = self._folded.agent_state.last_reply
        # If the reply is incomplete, each of its calls may be incomplete too.
        is_cut_off = reply is not None and reply.finish_reason not in _WHOLE
        inputs: list[PendingInput] = []
        free: list[_Ready] = []
        for call in calls:
            if is_cut_off and not self._folded.has_started(call.id):
                self._fail(call, ToolError(CUT_OFF))
                continue
            ready = self._ready(call, is_of_model=reply is not None)
            if ready is None:
                continue
            required = self._required_input(ready)
            if required is None:
                free.append(ready)
            else:
                inputs.append(required)
        if len(free) == 1:
            await self._call(free[0])
        else:
            await self._call_all(free)
        if self._is_held_back:
            raise DrainedError
        return inputs

    def _ready(self, call: ToolCall, *, is_of_model: bool) -> _Ready | None:
        """Return the call with its tool and arguments; None after writing an error, if these are not valid. A model's
        arguments may be in a code fence, or encoded twice.
        """
        tool = self._runtime.tools.get(call.name)
        if tool is None:
            known = ", ".join(sorted(self._runtime.tools)) or "none"
            self._fail(call, ToolError(f"there is no such tool; tools: {known}"))
            return None
        try:
            arguments = tool.parse(meant(call.arguments_json) if is_of_model else call.arguments_json)
        except ToolError as error:
            self._fail(call, error)
            return None
        return _Ready(call, tool, arguments, tool.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING)

    def _required_input(self, ready: _Ready) -> PendingInput | None:
        """Return the input that the call needs before it is handled, if any."""
        call = ready.call
        if self._is_unknown(ready):
            is_decided = self._folded.decision(call.id) not in ("", "approve")
            return outcome_of(call) if self._runtime.asks_outcome and not is_decided else None
        is_undecided = call.name in self._runtime.needs_approval and not self._folded.decision(call.id)
        return approval_of(call) if is_undecided else None

    def _is_unknown(self, ready: _Ready) -> bool:
        """Return whether the call may have taken effect in an earlier attempt. It must not be repeated without a
        decision.
        """
        return ready.changes_the_world and self._folded.is_interrupted(ready.call.id)

    async def _call_all(self, calls: Sequence[_Ready]) -> None:
        slots = asyncio.Semaphore(self._folded.submitted.limits.parallel_tools)
        try:
            async with asyncio.TaskGroup() as group:
                for ready in calls:
                    group.create_task(self._call_in(slots, ready))
        except BaseExceptionGroup as errors:
            # One error is enough to end the attempt: the journal was taken over, or an adapter has a bug.
            raise errors.exceptions[0] from None

    async def _call_in(self, slots: asyncio.Semaphore, ready: _Ready) -> None:
        async with slots:
            await self._call(ready)

    def _decided(self, ready: _Ready) -> ToolFinished | ToolError | None:
        """Return the result of a call that is not run; None if it is run."""
        call_id, decision = ready.call.id, self._folded.decision(ready.call.id)
        match decision:
            case "deny":
                comment = self._folded.answer_about(call_id).deny.comment
                denied = f"denied: {comment}" if comment else "denied"
                return ToolError(denied, reason=reasons.ERROR_REASON_TOOL_DENIED)
            case "output_json":
                return ToolFinished(output_json=self._folded.answer_about(call_id).output_json)
            case "error_message":
                return ToolError(self._folded.answer_about(call_id).error_message)
        if decision != "run_again" and self._is_unknown(ready):
            message = "the service stopped while the tool ran: whether it took effect is unknown"
            return ToolError(message, reason=reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN)
        return None

    async def _call(self, ready: _Ready) -> None:
        call, tool, arguments, changes_the_world = ready
        decided = self._decided(ready)
        if isinstance(decided, ToolError):
            self._fail(call, decided)
            return
        if decided is not None:
            self._finish(call, decided)
            return
        if changes_the_world and not self._drain.leaves_time_for(tool.timeout_s):
            self._is_held_back = True
            return
        event = TaskEvent()
        started = event.tool_started
        started.tool_call_id, started.name, started.side_effect = call.id, call.name, tool.side_effect
        self._journal.write(event)
        if changes_the_world or self._journal.may_be_refused:
            await self._journal.sync()
        else:
            self._journal.flush_soon()
        left_s = self._deadline - asyncio.get_running_loop().time()
        began = time.perf_counter()  # the loop's own clock counts milliseconds
        span = current_span()
        if span.is_recorded:
            span = begin_tool(call, shows_content=self._telemetry.tracer.shows_content)
        context = ToolContext(self._folded.submitted.tenant, self._journal.task_id, call.id, span.traceparent)
        try:
            with span.active():
                toolset = self._runtime.toolsets[tool.name]
                result = await toolset.call(tool.name, arguments, context, timeout_s=min(tool.timeout_s, left_s))
            finished = ToolFinished(output_json=result.output_json, truncated=result.truncated)
        except ToolError as error:
            finished = ToolFinished(error=error.as_failure())
        except asyncio.CancelledError:
            span.end("canceled")
            # On a release, calls that may be repeated, or whose outcome is asked for, stay open as after a crash.
            if not self._stop.is_release or (changes_the_world and not self._runtime.asks_outcome):
                stopped = _stopped(tool).as_failure()
                self._finish(call, ToolFinished(error=stopped, duration=duration(time.perf_counter() - began)))
            raise
        took_s = time.perf_counter() - began
        self._telemetry.metrics.tool_seconds(tool.name).observe(took_s, span.exemplar)
        if span.is_recorded:
            end_tool(span, finished, shows_content=self._telemetry.tracer.shows_content)
        set_seconds(finished.duration, took_s)
        self._finish(call, finished)
        if changes_the_world:
            self._journal.flush()

    def _fail(self, call: ToolCall, error: ToolError) -> None:
        self._finish(call, ToolFinished(error=error.as_failure()))

    def _finish(self, call: ToolCall, finished: ToolFinished) -> None:
        finished.tool_call_id = call.id
        # The model may have invented the name: metric labels must stay bounded.
        name = call.name if call.name in self._runtime.tools else UNKNOWN
        outcome = reason_name(finished.error.reason) if finished.HasField("error") else "result"
        self._telemetry.metrics.tool_calls(name, outcome).inc()
        event = TaskEvent()
        event.tool_finished.CopyFrom(finished)
        self._journal.write(event)


def _stopped(tool: Tool) -> ToolError:
    """Return the error of a call that was stopped while it ran."""
    if tool.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING:
        message = "the task was stopped while the tool ran: whether it took effect is unknown"
        return ToolError(message, reason=reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN)
    return ToolError("the task was stopped while the tool ran")

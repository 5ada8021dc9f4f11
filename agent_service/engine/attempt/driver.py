"""Drives one task: get the agent's decision, perform it, journal the result, repeat until the task ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from agent_service.agents.base import AskModel, CallTools, Complete, Fail, RequireInput
from agent_service.engine.attempt.model_turn import REPLY_BYTES_MAX, ModelTurns
from agent_service.engine.attempt.spans import begin_attempt, end_attempt
from agent_service.engine.attempt.stop import Stop
from agent_service.engine.attempt.tool_calls import ToolCalls
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.outcomes import canceled, failed, released, report_end, with_usage
from agent_service.engine.runtime import AgentRuntime, AttemptPorts, DrainedError
from agent_service.engine.task.inputs import question_of, required
from agent_service.errors import AgentServiceError, InternalError, OutputError, OverloadedError, TaskLimitError
from agent_service.journal.refusals import AppendRefusedError
from agent_service.llm.token_counts import utf8_length
from agent_service.observe.trace import NO_SPAN, set_current_span
from agent_service.text.times import to_nanos, to_seconds
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import (
    ATTEMPT_END_CAUSE_LOST,
    AttemptEnded,
    TaskEvent,
)
from agent_service.v1.task_pb2 import PendingInput

# After this many attempts in a row that ended with their process, without progress, there is no further attempt.
LOSSES_MAX = 3


class TaskDriver:
    """One attempt at one task. After `run` the task has durably ended or waits for input, unless another attempt took
    it over or this one was released. `on_end` is called at the end of `run`.
    """

    def __init__(
        self,
        journal: JournalWriter,
        stop: Stop,
        runtime: AgentRuntime,
        ports: AttemptPorts,
        on_end: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._stop = stop
        self._folded = journal.folded
        self._runtime = runtime
        self._ports = ports
        self._on_end = on_end
        self._log, self._metrics = ports.telemetry.log, ports.telemetry.metrics
        self._loop = asyncio.get_running_loop()
        left_s = to_seconds(journal.folded.task.deadline) - ports.clock()
        self._deadline = self._loop.time() + left_s
        self._turns = ModelTurns(journal, ports.models, runtime, self._deadline) if runtime.model else None

    async def run(self) -> None:
        """Drive the task to the end of the attempt. Raises no error that a task can cause."""
        span = NO_SPAN
        try:
            span = begin_attempt(self._ports.telemetry.tracer, self._folded)
            set_current_span(span)
            try:
                await self._attempt()
            except (AppendRefusedError, OverloadedError) as lost:
                # Fenced: the journal belongs to another attempt. If nothing was stored, the caller got the error.
                if self._journal.was_stored:
                    self._log.warning("attempt_fenced", task_id=self._journal.task_id, error=type(lost).__name__)
            except Exception as error:  # noqa: BLE001 - the last resort: a bug here must not affect other tasks
                self._log.error("task_lost", error, task_id=self._journal.task_id)
                await self._give_up()
            self._report()
        finally:
            self._on_end()
            end_attempt(span, self._folded)

    async def _attempt(self) -> None:
        """Start the attempt, work until the task ends, waits for input, is stopped or times out, and write that."""
        self._journal.attempt += 1
        started = TaskEvent()
        started.attempt_started.worker = self._ports.worker
        self._journal.write(started)
        stop = self._stop
        timer = self._loop.call_at(self._deadline, stop.time_out)
        stop.working = asyncio.current_task()
        try:
            end = self._end_before_work() or await self._work()
        except BaseException as error:
            end = self._end_by(error)
            if end is None:
                raise
        finally:
            stop.working = None
            timer.cancel()
        if end is None or (self._folded.is_waiting and not end.HasField("canceled")):
            # It waits for input, durably: its deadline is suspended, and no process drives it.
            return
        if end.HasField("canceled") and self._folded.cancel_requested is None:
            self._journal.write(TaskEvent(cancel_requested=stop.requested))
        self._journal.write(with_usage(end, self._folded))
        await self._journal.sync()
        if end.HasField("attempt_ended"):
            self._metrics.attempts_left("DRAIN").inc()

    def _end_before_work(self) -> TaskEvent | None:
        """Return the end of a task that was stopped before this attempt began; None if it was not.

        Raises:
            TaskLimitError: ATTEMPTS_EXHAUSTED.
        """
        if self._folded.cancel_requested is not None:
            return canceled(self._folded.cancel_requested.cause)
        if self._stop.event is None and self._folded.losses >= LOSSES_MAX:
            lost = f"{LOSSES_MAX} attempts in a row were lost with the process that made them"
            raise TaskLimitError(reasons.ERROR_REASON_ATTEMPTS_EXHAUSTED, lost)
        return self._stop.event

    def _end_by(self, error: BaseException) -> TaskEvent | None:
        """Return the end that an error leads to; None if the error propagates."""
        match error:
            case asyncio.CancelledError():
                if self._stop.event is None or _uncancel(self._stop.interrupts) > 0:
                    # Not, or not only, the cancellation by `Stop`: the process ends and no longer waits.
                    return None
                return self._stop.event
            case DrainedError():
                return released()
            case AppendRefusedError() | OverloadedError():
                return None
            case AgentServiceError():
                return failed(error.as_failure())
            case Exception():
                self._log.error("task_fault", error, task_id=self._journal.task_id, agent=self._runtime.name)
                return failed(InternalError().as_failure())
            case _:
                return None

    async def _work(self) -> TaskEvent | None:
        """Get the agent's decisions and perform them. Return the end of the task; None if it waits for input."""
        folded, limits, agent = self._folded, self._folded.submitted.limits, self._runtime.agent
        while True:
            match agent.step(folded.agent_state):
                case AskModel(messages, schema):
                    if folded.turns >= limits.turns:
                        raise _exhausted(f"the agent's limit of {limits.turns} turns is reached")
                    if self._turns is None:
                        raise TypeError(f"agent {self._runtime.name} asks a model and has none")
                    await self._turns.ask(messages, schema.text if schema else "")
                case CallTools(calls) if not calls:
                    # Otherwise the attempt would loop without doing anything.
                    raise TypeError(f"agent {self._runtime.name} asks for no tools at all")
                case CallTools(calls):
                    new = [call for call in calls if not folded.has_started(call.id)]
                    if folded.task.usage.tool_calls + len(new) > limits.tool_calls:
                        raise _exhausted(f"the agent's limit of {limits.tool_calls} tool calls is reached")
                    inputs = await self._tool_calls().run(calls)
                    if inputs and await self._waits_for(inputs):
                        return None
                case RequireInput() as question:
                    if await self._waits_for([question_of(question)]):
                        return None
                case Complete(output, truncated):
                    return self._completed(output, truncated=truncated)
                case Fail(failure):
                    return failed(failure)
                case other:  # an agent without type checks; asking again would return the same
                    raise TypeError(f"a {type(other).__name__} is no action")

    def _tool_calls(self) -> ToolCalls:
        ports = self._ports
        return ToolCalls(self._journal, self._runtime, ports.drain, ports.telemetry, self._deadline, self._stop)

    async def _give_up(self) -> None:
        """End the attempt as lost, so that another one follows; after LOSSES_MAX of them the task fails."""
        with suppress(Exception):
            self._journal.write(TaskEvent(attempt_ended=AttemptEnded(cause=ATTEMPT_END_CAUSE_LOST)))
            await self._journal.sync()
            self._metrics.attempts_left("LOST").inc()

    def _completed(self, output: str, *, truncated: bool) -> TaskEvent:
        """Return the end with this answer of an agent.

        Raises:
            TaskLimitError: OUTPUT_INVALID, the answer is too long. OutputError: it breaks the task's output schema.
        """
        if utf8_length(output) > REPLY_BYTES_MAX:
            too_long = f"the answer is longer than {REPLY_BYTES_MAX} bytes"
            raise TaskLimitError(reasons.ERROR_REASON_OUTPUT_INVALID, too_long)
        schema = self._folded.agent_state.output_schema
        if schema is not None and (broken := schema.violations(output)):
            raise OutputError(broken)
        event = TaskEvent()
        event.completed.output = output
        event.completed.output_truncated = truncated
        return event

    async def _waits_for(self, inputs: list[PendingInput]) -> bool:
        """Begin to wait for input. Return False if a request to cancel the task came first."""
        event = required(self._folded, inputs, to_nanos(self._ports.clock()))
        if await self._journal.write_unless_grown(event):
            self._metrics.inputs_asked(self._runtime.name).inc(len(inputs))
            return True
        await asyncio.sleep(0)  # the cancellation is raised here
        return False

    def _report(self) -> None:
        task = self._folded.task
        if self._folded.is_waiting:
            self._log.info(
                "task_waiting",
                task_id=task.id,
                tenant=self._folded.submitted.tenant,
                agent=task.agent,
                cause="input",
                inputs=len(task.pending_inputs),
            )
        if self._journal.is_closed:
            report_end(self._log, self._metrics, self._folded)


def _uncancel(interrupts: int) -> int:
    """Clear the cancellations by `Stop`, so that later awaits do not raise them again. Return how many others are
    pending.
    """
    current = asyncio.current_task()
    assert current is not None
    for _ in range(interrupts):
        current.uncancel()
    return current.cancelling()


def _exhausted(message: str) -> TaskLimitError:
    return TaskLimitError(reasons.ERROR_REASON_BUDGET_EXHAUSTED, message)

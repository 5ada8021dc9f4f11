"""Drives one task: fold, ask the agent for its decision, perform it, journal what happened, again, until it ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from agent_service.agents.base import AskModel, CallTools, Complete, Fail, RequireInput
from agent_service.engine.attempt.model_turn import REPLY_BYTES_MAX, ModelTurn
from agent_service.engine.attempt.spans import begin_attempt, end_attempt
from agent_service.engine.attempt.stop import Stop
from agent_service.engine.attempt.task_budget import TaskBudget
from agent_service.engine.attempt.tool_calls import ToolCalls
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.outcomes import canceled, failed, released, report_end, with_usage
from agent_service.engine.runtime import AgentRuntime, DrainedError, Ports
from agent_service.engine.task.context_window import Window
from agent_service.engine.task.inputs import question_of, required
from agent_service.errors import AgentServiceError, InternalError, OutputError, OverloadedError, TaskLimitError
from agent_service.journal.refusals import AppendRefusedError
from agent_service.llm.token_counts import utf8_length
from agent_service.observe.trace import set_current_span
from agent_service.text.times import to_nanos, to_seconds
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import (
    ATTEMPT_END_CAUSE_LOST,
    AttemptEnded,
    AttemptStarted,
    TaskCompleted,
    TaskEvent,
)
from agent_service.v1.task_pb2 import PendingInput

# So many attempts in a row that ended with their process, without a step forward, and there is no other.
LOSSES_MAX = 3


class TaskDriver:
    """One attempt at one task. After `run` the task has ended or waits for input, durably, unless the journal went to
    another attempt or this one was let go of.
    """

    def __init__(self, journal: JournalWriter, stop: Stop, runtime: AgentRuntime, ports: Ports) -> None:
        self._journal = journal
        self._stop = stop
        self._folded = journal.folded
        self._runtime = runtime
        self._ports = ports
        self._window = Window(runtime.model) if runtime.model else None
        left_s = to_seconds(journal.folded.task.deadline) - ports.clock()
        self._deadline = asyncio.get_running_loop().time() + left_s

    async def run(self) -> None:
        """Drive to the end. Raises nothing that a task can cause."""
        span = begin_attempt(self._ports.tracer, self._folded)
        set_current_span(span)
        try:
            await self._drive()
        finally:
            end_attempt(span, self._folded)

    async def _drive(self) -> None:
        try:
            await self._run()
        except (AppendRefusedError, OverloadedError) as lost:
            # Fenced: the journal belongs to another attempt now. What never was this attempt's has been told already.
            if self._journal.was_stored:
                self._ports.log.warning("task_let_go", task_id=self._journal.task_id, error=type(lost).__name__)
        except Exception as error:  # noqa: BLE001 - the last resort: a bug here must not take other tasks along
            self._ports.log.error("task_lost", error, task_id=self._journal.task_id)
            await self._give_up()
        self._report()

    async def _give_up(self) -> None:
        """Leave the task to another attempt; after LOSSES_MAX of them, to its end."""
        with suppress(Exception):
            self._journal.write(TaskEvent(attempt_ended=AttemptEnded(cause=ATTEMPT_END_CAUSE_LOST)))
            await self._journal.sync()
            self._ports.metrics.attempts_left("LOST").inc()

    async def _run(self) -> None:
        self._journal.attempt += 1
        self._journal.write(TaskEvent(attempt_started=AttemptStarted(worker=self._ports.worker)))
        end = await self._work_in_time()
        if end is None or (self._folded.is_waiting and not end.HasField("canceled")):
            # It waits, durably: its clock stands still, and it is no process's to let go of.
            return
        if end.HasField("canceled") and self._folded.cancel_requested is None:
            self._journal.write(TaskEvent(cancel_requested=self._stop.requested))
        self._journal.write(with_usage(end, self._folded))
        await self._journal.sync()
        if end.HasField("attempt_ended"):
            self._ports.metrics.attempts_left("DRAIN").inc()

    async def _work_in_time(self) -> TaskEvent | None:
        """Work until the end, the deadline or a stop; the event that says which. None where the task waits for input,
        which is written already.
        """
        try:
            async with asyncio.timeout_at(self._deadline) as deadline:
                self._stop.working = asyncio.current_task()
                if self._folded.cancel_requested is not None:
                    return canceled(self._folded.cancel_requested.cause)
                if self._stop.event is not None:
                    return self._stop.event
                try:
                    return await self._work()
                finally:
                    self._stop.working = None
        except asyncio.CancelledError:
            if self._stop.event is None or _uncancel() > 0:
                # Not, or not only, our own cancellation: the process ends and does not wait for us any more.
                raise
            return self._stop.event
        except TimeoutError as error:
            if deadline.expired():
                limit = TaskLimitError(reasons.ERROR_REASON_DEADLINE_EXCEEDED, "the task's deadline passed")
                return failed(limit.as_failure())
            return self._fault(error)
        except DrainedError:
            return released()
        except AppendRefusedError:
            raise
        except AgentServiceError as error:
            if isinstance(error, OverloadedError):
                raise
            return failed(error.as_failure())
        except Exception as error:  # noqa: BLE001 - whatever an agent or an adapter raises, the task must end
            return self._fault(error)

    async def _work(self) -> TaskEvent | None:
        """The loop itself."""
        folded, limits = self._folded, self._folded.submitted.limits
        if folded.losses >= LOSSES_MAX:
            lost = f"{LOSSES_MAX} attempts in a row were lost with the process that made them"
            raise TaskLimitError(reasons.ERROR_REASON_ATTEMPTS_EXHAUSTED, lost)
        while True:
            match self._runtime.agent.step(folded.agent_state):
                case AskModel(messages, schema):
                    if folded.turns >= limits.turns:
                        raise _exhausted(f"the agent's limit of {limits.turns} turns is reached")
                    if self._runtime.model is None or self._window is None:
                        raise TypeError(f"agent {self._runtime.name} asks a model and has none")
                    budget = TaskBudget(folded, self._runtime.prices, self._ports.budgets)
                    turn = ModelTurn(
                        self._journal,
                        self._ports,
                        self._runtime.model,
                        self._window,
                        budget,
                        self._deadline,
                        waits_for_limits=self._runtime.waits_for_limits,
                    )
                    await turn.ask(messages, self._runtime.tool_specs, schema.text if schema else "")
                case CallTools(calls) if not calls:
                    # Nothing would be done and nothing waited for, for ever.
                    raise TypeError(f"agent {self._runtime.name} asks for no tools at all")
                case CallTools(calls):
                    new = [call for call in calls if not folded.has_started(call.id)]
                    if folded.task.usage.tool_calls + len(new) > limits.tool_calls:
                        raise _exhausted(f"the agent's limit of {limits.tool_calls} tool calls is reached")
                    run = ToolCalls(self._journal, self._runtime, self._ports, self._deadline, self._stop)
                    asked = await run.run(calls)
                    if asked and await self._waits_for(asked):
                        return None
                case RequireInput() as question:
                    if await self._waits_for([question_of(question)]):
                        return None
                case Complete(output, truncated):
                    return self._completed(output, truncated=truncated)
                case Fail(failure):
                    return failed(failure)
                case other:  # of an agent that no type checker has read; asked again, it would say the same for ever
                    raise TypeError(f"a {type(other).__name__} is no action")

    def _completed(self, output: str, *, truncated: bool) -> TaskEvent:
        """The end with this answer, whichever agent gives it; a failure where it breaks the task's schema, or is longer
        than any answer may be.
        """
        if utf8_length(output) > REPLY_BYTES_MAX:
            too_long = f"the answer is longer than {REPLY_BYTES_MAX} bytes"
            raise TaskLimitError(reasons.ERROR_REASON_OUTPUT_INVALID, too_long)
        schema = self._folded.agent_state.output_schema
        if schema is not None and (broken := schema.violations(output)):
            raise OutputError(broken)
        return TaskEvent(completed=TaskCompleted(output=output, output_truncated=truncated))

    async def _waits_for(self, inputs: list[PendingInput]) -> bool:
        """Begin to wait; False if somebody wants the task to stop first."""
        waits = await self._journal.write_unless_grown(required(self._folded, inputs, to_nanos(self._ports.clock())))
        if waits:
            self._ports.metrics.inputs_asked(self._runtime.name).inc(len(inputs))
        else:
            await asyncio.sleep(0)  # where the cancellation arrives
        return waits

    def _fault(self, error: BaseException) -> TaskEvent:
        self._ports.log.error("task_fault", error, task_id=self._journal.task_id, agent=self._runtime.name)
        return failed(InternalError().as_failure())

    def _report(self) -> None:
        task = self._folded.task
        if self._folded.is_waiting:
            self._ports.log.info(
                "task_waiting",
                task_id=task.id,
                tenant=self._folded.submitted.tenant,
                agent=task.agent,
                cause="input",
                inputs=len(task.pending_inputs),
            )
        if self._journal.is_closed:
            report_end(self._ports, self._folded)


def _uncancel() -> int:
    """Our cancellation has done its work: what is awaited from here on must not take it for a new one. How many others
    there were.
    """
    current = asyncio.current_task()
    assert current is not None
    return current.uncancel()


def _exhausted(message: str) -> TaskLimitError:
    return TaskLimitError(reasons.ERROR_REASON_BUDGET_EXHAUSTED, message)

"""Tasks, in the terms of the domain: submit, follow, get. One method for each RPC, knowing nothing of the wire."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from agent_service.engine.recovery import read_folded
from agent_service.engine.runner import Runner, RunningTask
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task_state import FoldedTask
from agent_service.errors import FieldViolation, NotFoundError, OverloadedError, ToolError, ValidationError
from agent_service.feed.base import Lagged, Subscription
from agent_service.keys.base import Principal, Scope
from agent_service.limits.base import Charge, Stage, Subject
from agent_service.service.catalog import Catalog
from agent_service.service.ids import ID, Ids
from agent_service.service.requests import RunTaskInput, ToolInvokeInput
from agent_service.store.base import STATE_AFTER, TERMINAL
from agent_service.tools.base import ToolArgumentsError
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import Heartbeat, TaskEvent, TaskLimits, TaskSubmitted
from agent_service.v1.task_pb2 import TASK_KIND_TOOL, CancelCause, Task
from agent_service.v1.tool_pb2 import ToolCall

HEARTBEAT_S = 15.0
# A tool that takes all of its time still has to say so before its task's own deadline.
TOOL_TASK_MARGIN_S = 1.0

TOOL_TASK_LIMITS = TaskLimits(tool_calls=1, parallel_tools=1)


class TaskService:
    """Runs and shows tasks. `catalog` may be replaced at any time; running tasks keep theirs."""

    def __init__(self, catalog: Catalog, runner: Runner) -> None:
        self.catalog = catalog
        self.draining = False
        self._ids = Ids()
        self._runner = runner
        self._ports = runner.ports

    async def submit(self, principal: Principal, run: RunTaskInput, *, caller_left_s: float | None) -> RunningTask:
        """Begin a task for a caller whose own deadline is `caller_left_s` away; None if it set none.

        Raises:
            NotFoundError, PermissionDeniedError: the agent. ValidationError: more time than the agent may take.
            RateLimitError, StateError: a limit that names the agent or its model. OverloadedError: no room.
        """
        agent = self.catalog.agent_for(principal, run.agent)
        if run.timeout is not None and run.timeout > agent.timeout_max_s:
            bound = f"must be at most the agent's maximum of {agent.timeout_max_s:g} s"
            raise ValidationError([FieldViolation("timeout", bound)])
        submitted = TaskSubmitted()
        submitted.CopyFrom(agent.admitted)
        submitted.task = run.task
        submitted.labels.update(run.labels)
        timeout_s = time_left(run.timeout or agent.timeout_s, caller_left_s)
        return await self._start(principal, submitted, agent.runtime, timeout_s)

    async def invoke_tool(
        self, principal: Principal, invoke: ToolInvokeInput, *, caller_left_s: float | None
    ) -> RunningTask:
        """Begin a task of kind TOOL.

        Raises:
            NotFoundError, PermissionDeniedError: the tool. ValidationError: inputs that break its schema.
            RateLimitError, StateError: a limit. OverloadedError: no room.
        """
        tool = self.catalog.tool_for(principal, invoke.tool_name)
        try:
            tool.parse(invoke.inputs_json)
        except ToolArgumentsError as error:
            raise ValidationError([_within_inputs(violation) for violation in error.violations]) from error
        except ToolError as error:
            raise ValidationError([FieldViolation("inputs", error.message)]) from error
        tool_timeout_s = min(invoke.timeout or tool.timeout_s, tool.timeout_s)
        submitted = TaskSubmitted(
            kind=TASK_KIND_TOOL,
            agent=tool.name,
            tool_call=ToolCall(id="call_1", name=tool.name, arguments_json=invoke.inputs_json),
            tool_digests={tool.name: tool.schema_digest},
            limits=TOOL_TASK_LIMITS,
        )
        runtime = self.catalog.tool_runtime(tool, tool_timeout_s)
        timeout_s = time_left(tool_timeout_s + TOOL_TASK_MARGIN_S, caller_left_s)
        return await self._start(principal, submitted, runtime, timeout_s)

    async def _start(
        self, principal: Principal, submitted: TaskSubmitted, runtime: AgentRuntime, timeout_s: float
    ) -> RunningTask:
        if self.draining:
            raise draining()
        subject = Subject(principal.tenant, submitted.agent, submitted.model)
        await self._ports.limiter.reserve(Charge(subject, Stage.NAMED, calls=1))
        submitted.tenant = principal.tenant
        deadline_ns = time.time_ns() + int(timeout_s * 1e9)
        submitted.deadline.seconds = deadline_ns // 1_000_000_000
        submitted.deadline.nanos = deadline_ns % 1_000_000_000
        return self._runner.start(self._ids.task_id(), submitted, runtime)

    async def finish(self, running: RunningTask) -> Task:
        """Wait for the end of a task.

        Raises:
            OverloadedError: DRAINING, this process let go of it unfinished.
        """
        await running.ended()
        if not running.is_over:
            raise draining(running)
        return running.folded.task

    async def follow(self, running: RunningTask) -> AsyncGenerator[TaskEvent]:
        """Every event of a task that was just begun, from the first to the last, with live text between.

        Raises:
            OverloadedError: STORE_UNAVAILABLE, it was not accepted; DRAINING, this process let go of it unfinished.
        """
        task_id, seen, is_over = running.task_id, 0, False
        with self._ports.feed.subscribe(task_id) as subscription:
            await running.accepted()
            while not is_over:
                events = await self._next_events(subscription, running, seen)
                if not events:
                    is_over = running.has_ended
                    yield _heartbeat(task_id, seen)
                for event in events:
                    if is_journaled(event):
                        if event.sequence <= seen:
                            continue
                        seen = event.sequence
                        is_over = is_over or ends_stream(event)
                    yield event
        await self.finish(running)

    async def _next_events(self, subscription: Subscription, running: RunningTask, seen: int) -> Sequence[TaskEvent]:
        """What comes next; nothing when it has been silent for HEARTBEAT_S, or all is over and told."""
        try:
            event = await subscription.next(HEARTBEAT_S)
        except Lagged:
            return await self._stored_after(running.task_id, seen)
        if event is None:
            return await self._stored_after(running.task_id, seen) if running.has_ended else ()
        if is_journaled(event) and event.sequence > seen + 1:
            # Those between were dropped for a reader that was too slow.
            return await self._stored_after(running.task_id, seen)
        return (event,)

    async def _stored_after(self, task_id: str, sequence: int) -> list[TaskEvent]:
        events: list[TaskEvent] = []
        while page := await self._ports.store.read(task_id, after_sequence=sequence):
            events += page
            sequence = page[-1].sequence
        return events

    async def get(self, principal: Principal, task_id: str) -> Task:
        """The task, folded from its journal.

        Raises:
            NotFoundError: TASK_NOT_FOUND, also for another tenant's and for what is no id at all.
        """
        folded = await read_folded(self._ports.store, task_id) if ID.fullmatch(task_id) else FoldedTask()
        if not _may_see(principal, folded):
            message, shown = "there is no such task", task_id[:128]
            raise NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, message, metadata={"task_id": shown})
        return folded.task


@contextmanager
def attended(running: RunningTask) -> Iterator[None]:
    """While a caller attends to a task; one that goes away before the end cancels it."""
    try:
        yield
    finally:
        if not running.folded.is_terminal:
            running.cancel(CancelCause.CANCEL_CAUSE_DISCONNECT)


def time_left(timeout_s: float, caller_left_s: float | None) -> float:
    """The task's time: its own, or what lets a caller with a deadline still see the outcome."""
    if caller_left_s is None:
        return timeout_s
    return min(timeout_s, caller_left_s - min(0.5, caller_left_s * 0.1))


def is_journaled(event: TaskEvent) -> bool:
    """Whether the event is in the journal, or was only live."""
    return not (event.HasField("text_delta") or event.HasField("heartbeat"))


def ends_stream(event: TaskEvent) -> bool:
    """Whether nothing more comes from this process: the task's last event, or the attempt's."""
    return event.HasField("attempt_ended") or STATE_AFTER.get(event.WhichOneof("event") or "") in TERMINAL


def draining(running: RunningTask | None = None) -> OverloadedError:
    """This process is on its way out; a task that it let go of is named, with the sequence to go on from."""
    metadata = {}
    if running is not None:
        metadata = {"task_id": running.task_id, "last_sequence": str(running.folded.task.last_sequence)}
    message = "the server is shutting down"
    return OverloadedError(reasons.ERROR_REASON_DRAINING, message, metadata=metadata)


def _within_inputs(violation: FieldViolation) -> FieldViolation:
    """A tool's finding with its path as the caller's request has it."""
    path = "inputs" if violation.field == "arguments" else f"inputs.{violation.field}"
    return FieldViolation(path, violation.description)


def _may_see(principal: Principal, folded: FoldedTask) -> bool:
    if not folded.task.state:
        return False
    return folded.submitted.tenant == principal.tenant or Scope.ADMIN in principal.scopes


def _heartbeat(task_id: str, sequence: int) -> TaskEvent:
    event = TaskEvent(task_id=task_id, sequence=sequence, heartbeat=Heartbeat())
    event.create_time.GetCurrentTime()
    return event

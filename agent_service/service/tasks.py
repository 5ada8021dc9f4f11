"""Accepts tasks: checks permissions, bounds and repetitions, then stores and starts them. Independent of gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from agent_service.engine.dispatch.base import Dispatcher
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.runtime import AgentRuntime, Drain
from agent_service.engine.task.state import FoldedTask
from agent_service.engine.tenant_budgets import TenantBudgets
from agent_service.errors import (
    ConflictError,
    FieldViolation,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    StateError,
    ToolError,
    ValidationError,
)
from agent_service.feed.base import FeedReader
from agent_service.feed.frame import Frame
from agent_service.journal.refusals import RequestIdTakenError, SessionBusyError, SessionOfOtherAgentError
from agent_service.keys.base import Principal
from agent_service.limits.base import Charge, Limiter, Stage, Subject
from agent_service.observe.trace import current_span
from agent_service.service.accepted import Accepted, NewTask, Prepared
from agent_service.service.callers.attached import Callers
from agent_service.service.commands import session_busy
from agent_service.service.ids import Ids
from agent_service.service.keyed_lock import KeyedLock
from agent_service.service.requests import BudgetInput, RunTaskInput, ToolInvokeInput
from agent_service.service.runtimes import Runtimes
from agent_service.service.watching.watcher import Outlet, TaskWatcher, draining
from agent_service.store.base import Journal, TaskIndex
from agent_service.text.times import set_seconds
from agent_service.tools.base import ToolArgumentsError
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import TaskLimits, TaskSubmitted
from agent_service.v1.task_pb2 import ON_DISCONNECT_DETACH, TASK_KIND_TOOL, Task

# A tool that uses its whole timeout must still report that before its task's deadline.
TOOL_TASK_MARGIN_S = 1.0

OnAccepted = Callable[[Accepted], Awaitable[None]]

TOOL_TASK_LIMITS = TaskLimits(tool_calls=1, parallel_tools=1)


@dataclass(frozen=True, slots=True)
class TaskPorts:
    """The ports that accepting a task takes. `clock` returns Unix time in seconds."""

    journal: Journal
    index: TaskIndex
    feed: FeedReader
    limiter: Limiter
    budgets: TenantBudgets
    drain: Drain
    clock: Callable[[], float]


class TaskService:
    """Accepts tasks."""

    def __init__(
        self, ports: TaskPorts, runtimes: Runtimes, dispatcher: Dispatcher, watcher: TaskWatcher, callers: Callers
    ) -> None:
        self._ports = ports
        self._runtimes = runtimes
        self._ids = Ids()
        self._dispatcher = dispatcher
        self._watcher = watcher
        self._callers = callers
        self._requests = KeyedLock()

    def prepare(
        self, principal: Principal, run: RunTaskInput, *, caller_left_s: float | None, detached: bool = False
    ) -> Prepared:
        """Prepare a task for a caller whose own deadline is `caller_left_s` away; None if it set none. A `detached`
        task outlives its caller, regardless of the request's `on_disconnect`.
        """
        is_detached = run.is_detached or detached
        caller_left_s = None if is_detached else caller_left_s
        request = self._request(principal, run.request_id)
        if run.request_id:
            request.request_digest = run.digest()
        if is_detached:
            request.on_disconnect = ON_DISCONNECT_DETACH
        complete = partial(self._complete, principal, run, request, caller_left_s)
        return Prepared(self._ids.task_id(), request, complete)

    def _complete(
        self, principal: Principal, run: RunTaskInput, request: TaskSubmitted, caller_left_s: float | None
    ) -> NewTask:
        """Return the task by its agent's current configuration.

        Raises:
            NotFoundError, PermissionDeniedError: the agent. ValidationError: more time than the agent may take.
        """
        agent = self._runtimes.catalog.agent_for(principal, run.agent)
        if run.timeout is not None and run.timeout > agent.timeout_max_s:
            bound = f"must be at most the agent's maximum of {agent.timeout_max_s:g} s"
            raise ValidationError([FieldViolation("timeout", bound)])
        # Most fields come with the copy: a merge serializes and parses what it merges, and takes several times as long.
        submitted = TaskSubmitted()
        submitted.CopyFrom(agent.admitted)
        submitted.MergeFrom(request)
        submitted.task = run.task
        if run.budget.tokens or run.budget.cost_nanos:
            self._lower_limits(submitted, run.budget, agent.runtime)
        if run.labels:
            submitted.labels.update(run.labels)
        if run.session_id:
            submitted.session_id = run.session_id
        if run.output_schema_json:
            submitted.output_schema_json = run.output_schema_json
        _limit_time(submitted, self._ports.clock(), run.timeout or agent.timeout_s, caller_left_s)
        return NewTask(submitted, agent.runtime)

    def _lower_limits(self, submitted: TaskSubmitted, budget: BudgetInput, runtime: AgentRuntime) -> None:
        """Apply the request's budget. It can lower the agent's limits, not raise them."""
        limits = submitted.limits
        if budget.tokens:
            limits.tokens = min(budget.tokens, limits.tokens or budget.tokens)
        if budget.cost_nanos:
            if submitted.model not in runtime.prices:
                missing = f"needs a price for the agent's model {submitted.model!r}"
                raise ValidationError([FieldViolation("budget.cost_nanos", missing)])
            limits.cost_nanos = min(budget.cost_nanos, limits.cost_nanos or budget.cost_nanos)

    def prepare_tool(self, principal: Principal, invoke: ToolInvokeInput, *, caller_left_s: float | None) -> Prepared:
        """Prepare a task of kind TOOL."""
        request = self._request(principal, invoke.request_id)
        if invoke.request_id:
            request.request_digest = invoke.digest()
        complete = partial(self._complete_tool, principal, invoke, request, caller_left_s)
        return Prepared(self._ids.task_id(), request, complete)

    def _complete_tool(
        self, principal: Principal, invoke: ToolInvokeInput, request: TaskSubmitted, caller_left_s: float | None
    ) -> NewTask:
        """Return the task by its tool's current configuration.

        Raises:
            NotFoundError, PermissionDeniedError: the tool. ValidationError: inputs that break its schema. StateError:
            APPROVAL_REQUIRED.
        """
        tool = self._runtimes.catalog.tool_for(principal, invoke.tool_name)
        try:
            tool.parse(invoke.inputs_json)
        except ToolArgumentsError as error:
            raise ValidationError([_within_inputs(violation) for violation in error.violations]) from error
        except ToolError as error:
            raise ValidationError([FieldViolation("inputs", error.message)]) from error
        if tool.needs_approval():
            message = f"calls of tool {tool.name!r} wait for approval; let an agent call it"
            raise StateError(reasons.ERROR_REASON_APPROVAL_REQUIRED, message, metadata={"tool": tool.name})
        tool_timeout_s = min(invoke.timeout or tool.timeout_s, tool.timeout_s)
        submitted = TaskSubmitted(kind=TASK_KIND_TOOL, agent=tool.name)
        call = submitted.tool_call
        call.id, call.name, call.arguments_json = "call_1", tool.name, invoke.inputs_json
        submitted.tool_digests[tool.name] = tool.schema_digest
        submitted.limits.CopyFrom(TOOL_TASK_LIMITS)
        submitted.MergeFrom(request)
        _limit_time(submitted, self._ports.clock(), tool_timeout_s + TOOL_TASK_MARGIN_S, caller_left_s)
        return NewTask(submitted, self._runtimes.catalog.tool_runtime(tool, tool_timeout_s))

    def _request(self, principal: Principal, request_id: str) -> TaskSubmitted:
        return TaskSubmitted(
            tenant=principal.tenant,
            submitted_by=principal.key_id,
            request_id=request_id,
            traceparent=current_span().traceparent,
        )

    async def run(self, prepared: Prepared, on_accepted: OnAccepted) -> FoldedTask:
        """Accept a task, call `on_accepted`, and wait until the task has ended or waits for input.

        Raises:
            As `accept`. OverloadedError: DRAINING, this process released it.
        """
        accepted = await self.accept(prepared)
        with self._callers.attach(accepted):
            await on_accepted(accepted)
            return await self._watcher.settled(accepted.task_id, accepted.running)

    @asynccontextmanager
    async def stream(
        self, prepared: Prepared, on_accepted: OnAccepted, outlet: Outlet | None = None
    ) -> AsyncIterator[AsyncGenerator[Frame]]:
        """Accept a task, call `on_accepted`, and follow the task from its first event until it has ended or waits for
        input. `outlet`: as for `TaskWatcher.watch`.

        Raises:
            As `run`.
        """
        with self._ports.feed.subscribe(prepared.task_id) as subscription:
            accepted = await self.accept(prepared)
            is_new = accepted.task_id == prepared.task_id
            del prepared  # and with it the request, for as long as the task runs
            with self._callers.attach(accepted):
                await on_accepted(accepted)
                task_id, watcher = accepted.task_id, self._watcher
                async with (
                    watcher.watch_new(task_id, subscription, outlet) if is_new else watcher.watch(task_id, 0, outlet)
                ) as frames:
                    yield frames

    async def submit(self, prepared: Prepared, on_accepted: OnAccepted) -> Task:
        """Accept a task that runs or is queued without a caller, and call `on_accepted`. Return the task as stored.

        Raises:
            As `accept`.
        """
        accepted = await self.accept(prepared, queued=True)
        await on_accepted(accepted)
        running, task = accepted.running, Task()
        is_stored = running is None or running.is_synced
        folded = accepted.folded if is_stored else await read_folded(self._ports.journal, accepted.task_id)
        task.CopyFrom(folded.task)
        return task

    async def accept(self, prepared: Prepared, *, queued: bool = False) -> Accepted:
        """Store a task durably and start or queue it; or find the task that its request_id names. Only a `queued` task
        may wait in the tenant's queue; any other starts at once or is refused, except behind a busy session.

        Raises:
            NotFoundError, PermissionDeniedError, ValidationError, StateError: as `complete` of what was prepared.
            RateLimitError, StateError: a limit that names the agent or its model. OverloadedError: DRAINING, no room,
            or STORE_UNAVAILABLE. StateError: SESSION_BUSY, SESSION_OF_OTHER_AGENT. ConflictError: REQUEST_ID_REUSED.
        """
        if self._ports.drain.stops_at is not None:
            raise draining()
        request = prepared.request
        if not request.request_id:
            return await self._admit(prepared, queued=queued)
        async with self._requests.hold(request.tenant, request.request_id) as is_repetition:
            existing = await self._existing(request) if is_repetition else ""
            if existing:
                return await self._repeated(prepared, existing)
            try:
                return await self._admit(prepared, queued=queued)
            except RequestIdTakenError as taken:
                return await self._repeated(prepared, taken.task_id)
            except (RateLimitError, StateError, OverloadedError, NotFoundError, ValidationError):
                # A repetition starts no work, so no limit, overload or changed configuration refuses it.
                existing = await self._existing(request)
                if existing:
                    return await self._repeated(prepared, existing)
                raise

    async def _existing(self, request: TaskSubmitted) -> str:
        return await self._ports.index.of_request(request.tenant, request.request_id)

    async def _admit(self, prepared: Prepared, *, queued: bool) -> Accepted:
        """As `accept`, for a task not known to be a repetition. Charges the limits that name its agent or model.

        Raises:
            As `accept`. RequestIdTakenError: it is a repetition.
        """
        submitted, runtime = prepared.complete()
        charge = Charge(Subject(submitted.tenant, submitted.agent, submitted.model), Stage.TASK, calls=1)
        if submitted.model and self._ports.budgets.configured:  # without a model, nothing is spent
            await self._ports.budgets.admit(submitted.tenant)
        reservation = await self._ports.limiter.reserve(charge)
        task_id = prepared.task_id
        try:
            stored = await self._dispatcher.submit(task_id, submitted, runtime, may_wait=queued)
        except asyncio.CancelledError:
            self._callers.left_before_accepted(task_id, submitted)
            raise
        except SessionBusyError as busy:
            await self._ports.limiter.refund(reservation)
            raise session_busy(submitted.session_id, busy.unfinished) from busy
        except SessionOfOtherAgentError as other:
            await self._ports.limiter.refund(reservation)
            metadata = {"session_id": submitted.session_id, "agent": other.agent}
            message = f"the session was begun with agent {other.agent!r}"
            raise StateError(reasons.ERROR_REASON_SESSION_OF_OTHER_AGENT, message, metadata=metadata) from other
        except (RequestIdTakenError, OverloadedError):
            await self._ports.limiter.refund(reservation)
            raise
        return Accepted(task_id, submitted, stored.running, stored.folded, reservation.status)

    async def _repeated(self, prepared: Prepared, task_id: str) -> Accepted:
        """Return the task that the request_id names, if this request has the same content.

        Raises:
            ConflictError: REQUEST_ID_REUSED.
        """
        running = self._dispatcher.find(task_id)
        with self._callers.arriving(task_id):
            folded = running.folded if running else await read_folded(self._ports.journal, task_id)
        first = folded.submitted
        if first.request_digest != prepared.request.request_digest:
            request_id = prepared.request.request_id
            message = f"the request_id {request_id!r} was used with other content"
            metadata = {"request_id": request_id, "task_id": task_id}
            raise ConflictError(reasons.ERROR_REASON_REQUEST_ID_REUSED, message, metadata=metadata)
        return Accepted(task_id, first, running, folded)


def _limit_time(submitted: TaskSubmitted, now_s: float, timeout_s: float, caller_left_s: float | None) -> None:
    """Set the task's timeout and deadline. `now_s` is Unix time in seconds."""
    set_seconds(submitted.timeout, timeout_s)
    set_seconds(submitted.deadline, now_s + time_left(timeout_s, caller_left_s))


def time_left(timeout_s: float, caller_left_s: float | None) -> float:
    """Return the task's time: its timeout, or less if its caller has a deadline, so that it still sees the outcome."""
    if caller_left_s is None:
        return timeout_s
    return min(timeout_s, caller_left_s - min(0.5, caller_left_s * 0.1))


def _within_inputs(violation: FieldViolation) -> FieldViolation:
    """Return a violation of a tool's arguments with its path in the caller's request."""
    path = "inputs" if violation.field == "arguments" else f"inputs.{violation.field}"
    return FieldViolation(path, violation.description)

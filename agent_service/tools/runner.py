"""Runs one tool call with a time limit, limited output, and isolation from its errors.

Independent of tasks: the caller writes the journal and handles cancelled calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from agent_service.errors import OverloadedError, ToolError
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import AnyFunctionTool
from agent_service.tools.output import encode
from agent_service.tools.threads import Threads, TooManyAbandonedError
from agent_service.tools.toolset import ToolResult
from agent_service.v1.error_reason_pb2 import (
    ERROR_REASON_OVERLOADED,
    ERROR_REASON_TOOL_OUTCOME_UNKNOWN,
    ERROR_REASON_TOOL_TIMEOUT,
)
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING

# The time that a cancelled async tool has for cleaning up before it is abandoned.
CANCEL_GRACE_S = 0.5
THREADS_MAX_DEFAULT = 64

# The outcome of a call that ends by itself.
Outcome = ToolResult | ToolError

logger = logging.getLogger(__name__)


class ToolRunner:
    """Runs tools: async ones in tasks, sync ones in at most `threads_max` threads, of which no tenant and no tool uses
    more than its part. Used from one event loop.

    An abandoned sync tool occupies its thread until it returns; that thread is not counted in `threads`. Leaving the
    context waits for no thread, and at most CANCEL_GRACE_S for abandoned async tools.
    """

    def __init__(self, *, threads_max: int = THREADS_MAX_DEFAULT) -> None:
        self.threads = Threads(threads_max)
        self._stopping: set[asyncio.Future[Outcome]] = set()

    async def __aenter__(self) -> ToolRunner:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.threads.close()
        for task in self._stopping:
            task.cancel()
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=CANCEL_GRACE_S)

    async def check(self) -> None:
        """Check that sync tools can be run.

        Raises:
            OverloadedError: abandoned tools occupy the maximum number of threads.
        """
        if self.threads.abandoned >= self.threads.abandoned_max:
            message = f"{self.threads.abandoned} threads are occupied by abandoned tools that have not returned"
            raise OverloadedError(ERROR_REASON_OVERLOADED, message)

    async def run(
        self, tool: AnyFunctionTool, arguments: Mapping[str, Any], context: ToolContext, *, timeout_s: float
    ) -> ToolResult:
        """Run a tool for at most `timeout_s` seconds, including the wait for a thread. `arguments` is the result of
        `tool.parse`.

        Cancelling always ends in CancelledError: at once for a sync tool, which continues in its thread, and within
        CANCEL_GRACE_S for an async one. The outcome is then as unknown as after a crash, and the same rule applies: a
        side-effecting call that was started and has not finished has an unknown outcome.

        Raises:
            ToolError: TOOL_FAILED, the tool raised (a ToolError's message is passed on, other texts are only logged) or
                returned a value that JSON cannot express. TOOL_TIMEOUT, it did not finish in time, or no thread was
                free, or abandoned calls of the same tool or tenant occupy too many threads. TOOL_OUTCOME_UNKNOWN, it is
                side-effecting, did not finish in time, and still runs.
        """
        if timeout_s <= 0:
            raise ToolError("no time was left to start the tool", reason=ERROR_REASON_TOOL_TIMEOUT, retryable=True)
        call = _Call(tool, arguments, context, timeout_s)
        deadline = asyncio.get_running_loop().time() + timeout_s
        running = asyncio.create_task(call.perform_async()) if tool.is_async else await self._in_thread(call, deadline)
        try:
            await _ended_by(running, deadline)
        except asyncio.CancelledError:
            await self._stop(running, call)
            raise
        in_time = running.done()
        if not in_time:
            await self._stop(running, call)
        outcome = _outcome(running, call, in_time=in_time)
        if isinstance(outcome, ToolError):
            raise outcome
        return outcome

    async def _in_thread(self, call: _Call, deadline: float) -> asyncio.Future[Outcome]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self.threads.start(call.perform, call.keys)
        except TooManyAbandonedError:
            message = "too many earlier calls of the tool, or of the tenant, were abandoned and have not returned"
            message += "; it was not started"
            raise ToolError(message, reason=ERROR_REASON_TOOL_TIMEOUT, retryable=True) from None
        except TimeoutError:
            message = f"no thread was free to run the tool within {call.limit_s:.3g} s; it was not started"
            raise ToolError(message, reason=ERROR_REASON_TOOL_TIMEOUT, retryable=True) from None

    async def _stop(self, running: asyncio.Future[Outcome], call: _Call) -> None:
        """Stop a call, or abandon it."""
        try:
            if call.tool.is_async:
                running.cancel()
                # Referenced until it ends: the loop has only weak references, so the task could be garbage-collected.
                self._stopping.add(running)
                running.add_done_callback(self._stopping.discard)
                await asyncio.wait((running,), timeout=CANCEL_GRACE_S)
        finally:
            if not running.done():
                self.threads.abandon(running)
                logger.warning("tool_abandoned", extra=call.log_fields)


class _Call(NamedTuple):
    """One call, with its time limit."""

    tool: AnyFunctionTool
    arguments: Mapping[str, Any]
    context: ToolContext
    limit_s: float

    @property
    def changes_the_world(self) -> bool:
        return self.tool.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING

    @property
    def log_fields(self) -> dict[str, str]:
        return {"tool": self.tool.name, "task_id": self.context.task_id}

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Return the keys whose share of the threads the call uses."""
        return (("tenant", self.context.tenant), ("tool", self.tool.name))

    def perform(self) -> Outcome:
        """Run the call in a thread; never raises."""
        try:
            result = self.tool.call(self.arguments, self.context)
            if asyncio.iscoroutine(result):
                result.close()
                return ToolError("the tool returned a coroutine; it must be declared with async def")
            return encode(result)
        except BaseException as error:  # noqa: BLE001 - an exception of a tool is its result
            return self.failure(error)

    async def perform_async(self) -> Outcome:
        try:
            return encode(await self.tool.call(self.arguments, self.context))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt and SystemExit would end the event loop
            return self.failure(error)

    def failure(self, error: BaseException) -> ToolError:
        if isinstance(error, ToolError):
            return error
        logger.warning("tool_raised", extra=self.log_fields, exc_info=error)
        return ToolError(f"the tool raised {type(error).__name__}")


async def _ended_by(running: asyncio.Future[Outcome], deadline: float) -> None:
    """Return when a call has ended, or at the deadline by the loop's clock."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(*_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_at(deadline, wake)
    running.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        running.remove_done_callback(wake)


def _outcome(running: asyncio.Future[Outcome], call: _Call, *, in_time: bool) -> Outcome:
    """Return the outcome of a call that ended in time, or was stopped."""
    if not running.done():
        return _abandoned(call)
    if running.cancelled():
        # If it ended in time, the tool has cancelled itself.
        return call.failure(asyncio.CancelledError()) if in_time else _timed_out(call)
    outcome = running.result()
    # A tool that returns a result when it is cancelled has finished, although late: its result is kept.
    return _timed_out(call) if isinstance(outcome, ToolError) and not in_time else outcome


def _abandoned(call: _Call) -> ToolError:
    if not call.changes_the_world:
        return _timed_out(call)
    message = (
        f"the tool did not finish within {call.limit_s:.3g} s and still runs: it is unknown whether it takes effect"
    )
    return ToolError(message, reason=ERROR_REASON_TOOL_OUTCOME_UNKNOWN)


def _timed_out(call: _Call) -> ToolError:
    message = f"the tool did not finish within {call.limit_s:.3g} s"
    if call.changes_the_world:
        message += " and was cancelled; it may have taken partial effect"
    return ToolError(message, reason=ERROR_REASON_TOOL_TIMEOUT, retryable=not call.changes_the_world)

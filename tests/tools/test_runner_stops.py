"""Timeouts and cancellation: what is stopped, what is abandoned, and what is known afterwards."""

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest

from agent_service.errors import OverloadedError, ToolError
from agent_service.tools import runner as runner_module
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import SideEffect, tool
from agent_service.tools.runner import ToolRunner
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.error_reason_pb2 import ErrorReason
from tests.tools.calls import SHORT_S, Gate, failure, run, triple


async def test_a_tool_that_does_not_end_in_time_is_stopped(runner: ToolRunner, context: ToolContext) -> None:
    @tool(side_effect="read_only")
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    error = await failure(runner, hang, context, SHORT_S)
    assert (error.reason, error.retryable) == (reasons.ERROR_REASON_TOOL_TIMEOUT, True)
    assert error.message == "the tool did not finish within 0.02 s"


async def test_an_async_tool_that_changes_something_may_have_done_so_in_part(
    runner: ToolRunner, context: ToolContext
) -> None:
    @tool
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    error = await failure(runner, hang, context, SHORT_S)
    assert (error.reason, error.retryable) == (reasons.ERROR_REASON_TOOL_TIMEOUT, False)
    assert "may have taken partial effect" in error.message


@pytest.mark.parametrize("timeout_s", [0, -1])
async def test_nothing_is_started_without_time_left(runner: ToolRunner, context: ToolContext, timeout_s: float) -> None:
    started = []

    @tool
    async def start() -> None:
        """Start."""
        started.append(1)

    error = await failure(runner, start, context, timeout_s)
    assert error.reason == reasons.ERROR_REASON_TOOL_TIMEOUT
    assert not started


@pytest.mark.parametrize(
    ("side_effect", "reason"),
    [
        ("read_only", reasons.ERROR_REASON_TOOL_TIMEOUT),
        ("idempotent", reasons.ERROR_REASON_TOOL_TIMEOUT),
        ("side_effecting", reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN),
    ],
)
async def test_a_sync_tool_that_is_out_of_time_is_abandoned(
    runner: ToolRunner,
    context: ToolContext,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    side_effect: SideEffect,
    reason: ErrorReason.ValueType,
) -> None:
    @tool(side_effect=side_effect)
    def hang() -> None:
        """Hang."""
        gate.wait()

    with caplog.at_level(logging.WARNING, runner_module.__name__):
        error = await failure(runner, hang, context, SHORT_S)
    assert error.reason == reason
    assert error.retryable == (side_effect != "side_effecting")
    assert [record.getMessage() for record in caplog.records] == ["tool_abandoned"]


async def test_abandoned_calls_leave_their_threads_to_others_up_to_a_bound_beyond_which_calls_are_refused(
    runner: ToolRunner, context: ToolContext, gate: Gate
) -> None:
    @tool(side_effect="read_only")
    def hang() -> None:
        """Hang."""
        gate.wait()

    elsewhere = replace(context, tenant="globex")
    for _ in range(4):
        await asyncio.gather(*[failure(runner, hang, context, SHORT_S) for _ in range(2)])
        await runner.check()
        assert (await run(runner, triple, '{"number": 1}', elsewhere)).output_json == "3"
    # Half of all that may be abandoned: of this tool and tenant nothing more is begun, of others it is.
    for refused, caller in ((hang, context), (triple, context), (hang, elsewhere)):
        with pytest.raises(ToolError, match=r"too many earlier calls .* it was not started") as caught:
            await run(runner, refused, '{"number": 1}' if refused is triple else "{}", caller)
        assert (caught.value.reason, caught.value.retryable) == (reasons.ERROR_REASON_TOOL_TIMEOUT, True)
    assert (await run(runner, triple, '{"number": 1}', elsewhere)).output_json == "3"
    gate.opened.set()
    await settled(runner)
    assert (await run(runner, triple, '{"number": 1}', context)).output_json == "3"
    await ended_but_for(4)


async def test_a_runner_is_not_ready_while_abandoned_calls_hold_as_many_threads_as_may_be(
    runner: ToolRunner, context: ToolContext, gate: Gate
) -> None:
    for number in range(8):

        @tool(side_effect="read_only", name=f"hang_{number}")
        def hang() -> None:
            """Hang."""
            gate.wait()

        caller = replace(context, tenant=f"tenant-{number}")
        await runner.check()
        await asyncio.gather(*[failure(runner, hang, caller, SHORT_S) for _ in range(2)])
    with pytest.raises(OverloadedError, match="16 threads are occupied by abandoned tools"):
        await runner.check()
    assert "too many earlier calls" in (await failure(runner, hang, replace(context, tenant="new"))).message
    gate.opened.set()
    await settled(runner)
    await runner.check()


@pytest.mark.parametrize("shared", ["tenant", "tool"])
async def test_no_tenant_and_no_tool_has_more_than_half_of_the_threads(
    runner: ToolRunner, context: ToolContext, gate: Gate, shared: str
) -> None:
    @tool(side_effect="read_only")
    def hang() -> None:
        """Hang."""
        gate.wait()

    callers = [context] * 3 if shared == "tenant" else [replace(context, tenant=f"t{n}") for n in range(3)]
    calls = [asyncio.create_task(run(runner, hang, "{}", caller)) for caller in callers]
    for _ in range(2):
        await gate.entered_once()
    assert runner.threads.working == 2
    others = [run(runner, triple, '{"number": 1}', replace(context, tenant=f"u{n}")) for n in range(20)]
    assert {result.output_json for result in await asyncio.gather(*others)} == {"3"}
    gate.opened.set()
    assert [result.output_json for result in await asyncio.gather(*calls)] == ["null"] * 3


async def test_a_caller_that_stops_waiting_for_a_thread_leaves_its_place_to_the_next(
    runner: ToolRunner, context: ToolContext, gate: Gate
) -> None:
    @tool(side_effect="read_only")
    def hang() -> None:
        """Hang."""
        gate.wait()

    calls = [asyncio.create_task(run(runner, hang, "{}", context)) for _ in range(6)]
    for _ in range(2):
        await gate.entered_once()
    for call in calls[2:5]:
        call.cancel()
    gate.opened.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in ended] == [False] * 2 + [True] * 3 + [False]
    assert (runner.threads.working, runner.threads.abandoned) == (0, 0)


async def test_a_caller_that_stops_waiting_as_it_gets_a_thread_gives_it_back(
    runner: ToolRunner, context: ToolContext, gate: Gate
) -> None:
    @tool(side_effect="read_only")
    def hang() -> None:
        """Hang."""
        gate.wait()

    calls = [asyncio.create_task(run(runner, hang, "{}", context)) for _ in range(3)]
    for _ in range(2):
        await gate.entered_once()
    calls[0].cancel()
    await asyncio.sleep(0)  # its thread has just been given to the third
    calls[2].cancel()
    await asyncio.wait(calls[::2])
    assert runner.threads.working == 1
    gate.opened.set()
    await calls[1]
    assert runner.threads.working == 0


async def settled(runner: ToolRunner) -> None:
    """Wait until all that was abandoned has returned."""
    async with asyncio.timeout(30):
        while runner.threads.abandoned:  # noqa: ASYNC110 - there is no event: threads end by themselves
            await asyncio.sleep(0)


async def ended_but_for(count: int) -> None:
    """Wait until so many threads of tools are left at most."""
    async with asyncio.timeout(30):
        while sum(thread.name.startswith("tool-") for thread in threading.enumerate()) > count:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_tool_that_answers_its_cancellation_with_a_result_has_finished(
    runner: ToolRunner, context: ToolContext
) -> None:
    @tool
    async def saved() -> str:
        """Saved."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved at the last moment"
        return ""

    result = await run(runner, saved, "{}", context, SHORT_S)
    assert result.output_json == '"saved at the last moment"'


async def test_a_tool_that_fails_while_it_is_cancelled_was_out_of_time(
    runner: ToolRunner, context: ToolContext
) -> None:
    @tool(side_effect="read_only")
    async def clumsy() -> None:
        """Clumsy."""
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    assert (await failure(runner, clumsy, context, SHORT_S)).reason == reasons.ERROR_REASON_TOOL_TIMEOUT


@pytest.mark.parametrize("side_effect", ["read_only", "side_effecting"])
async def test_an_async_tool_that_will_not_stop_is_abandoned(
    runner: ToolRunner, context: ToolContext, monkeypatch: pytest.MonkeyPatch, side_effect: SideEffect
) -> None:
    monkeypatch.setattr(runner_module, "CANCEL_GRACE_S", SHORT_S)
    released = asyncio.Event()
    made = tool(stubborn(released), name="stubborn", side_effect=side_effect, description="Stubborn.")
    error = await failure(runner, made, context, SHORT_S)
    unknown = side_effect == "side_effecting"
    assert error.reason == (reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN if unknown else reasons.ERROR_REASON_TOOL_TIMEOUT)
    released.set()


async def test_cancelling_a_call_cancels_its_async_tool(runner: ToolRunner, context: ToolContext) -> None:
    started, cleaned = asyncio.Event(), asyncio.Event()

    @tool
    async def hang() -> None:
        """Hang."""
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    call = asyncio.create_task(run(runner, hang, "{}", context))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cleaned.is_set()


async def test_cancelling_a_call_abandons_its_sync_tool_at_once(
    runner: ToolRunner, context: ToolContext, gate: Gate
) -> None:
    @tool
    def hang() -> None:
        """Hang."""
        gate.wait()

    call = asyncio.create_task(run(runner, hang, "{}", context))
    await gate.entered_once()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not gate.opened.is_set()


async def test_cancelling_a_call_that_waits_for_a_thread_takes_none(
    runner: ToolRunner, context: ToolContext, gate: Gate
) -> None:
    @tool
    def hang() -> None:
        """Hang."""
        gate.wait()

    calls = [asyncio.create_task(run(runner, hang, "{}", context)) for _ in range(3)]
    for _ in range(2):
        await gate.entered_once()
    calls[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[2]
    gate.opened.set()
    await asyncio.gather(*calls[:2])
    assert not gate.entered.acquire(blocking=False)
    assert (await run(runner, triple, '{"number": 1}', context)).output_json == "3"


async def test_cancelling_never_hangs_on_a_tool_that_will_not_stop(
    runner: ToolRunner, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "CANCEL_GRACE_S", SHORT_S)
    released = asyncio.Event()
    made = tool(stubborn(released), name="stubborn", description="Stubborn.")
    for cancels in (1, 2):
        call = asyncio.create_task(run(runner, made, "{}", context))
        for _ in range(cancels):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    released.set()


def stubborn(released: asyncio.Event) -> Any:
    async def hang() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    return hang

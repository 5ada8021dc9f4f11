"""What a call gives, what becomes of exceptions, and how the runner ends."""

import asyncio
import contextvars
import json
import logging
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from agent_service.errors import ToolError
from agent_service.tools import runner as runner_module
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import tool
from agent_service.tools.runner import ToolRunner
from agent_service.v1 import error_reason_pb2 as reasons
from tests.tools.calls import SHORT_S, Gate, double, failure, run, triple

request_id = contextvars.ContextVar("request_id", default="none")


@pytest.mark.parametrize(("made", "text"), [(double, "8"), (triple, "12")])
async def test_a_tool_is_run_with_json_in_and_json_out(
    runner: ToolRunner, context: ToolContext, made: Any, text: str
) -> None:
    result = await run(runner, made, '{"number": 4}', context)
    assert (result.output_json, result.truncated) == (text, False)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_tool_error_passes_with_its_words(runner: ToolRunner, context: ToolContext, is_async: bool) -> None:
    def refuse() -> None:
        """Refuse."""
        raise ToolError("no seat is free", retryable=True)

    async def refuse_async() -> None:
        """Refuse."""
        refuse()

    error = await failure(runner, tool(refuse_async) if is_async else tool(refuse), context)
    assert (error.reason, error.message, error.retryable) == (reasons.ERROR_REASON_TOOL_FAILED, "no seat is free", True)


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("kind", [ValueError, SystemExit, StopIteration, asyncio.CancelledError, TimeoutError])
async def test_any_other_exception_is_told_by_its_class_and_logged_in_full(
    runner: ToolRunner,
    context: ToolContext,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
    kind: type[BaseException],
) -> None:
    def fail() -> None:
        """Fail."""
        raise kind("secret")

    async def fail_async() -> None:
        """Fail."""
        fail()

    # A coroutine cannot raise StopIteration: Python makes it another one.
    name = "RuntimeError" if is_async and kind is StopIteration else kind.__name__
    with caplog.at_level(logging.WARNING, runner_module.__name__):
        error = await failure(runner, tool(fail_async, name="fail") if is_async else tool(fail), context)
    assert (error.reason, error.message) == (reasons.ERROR_REASON_TOOL_FAILED, f"the tool raised {name}")
    (record,) = caplog.records
    assert record.getMessage() == "tool_raised"
    assert (vars(record)["tool"], vars(record)["task_id"]) == ("fail", "task-1")
    assert record.exc_info


async def test_a_result_that_is_no_json_is_the_tools_failure(runner: ToolRunner, context: ToolContext) -> None:
    @tool
    def opaque() -> object:
        """Opaque."""
        return object()

    assert "not JSON serializable: object" in (await failure(runner, opaque, context)).message


async def test_a_sync_function_that_returns_a_coroutine_is_told_so(runner: ToolRunner, context: ToolContext) -> None:
    @tool
    def disguised() -> Any:
        """Disguised."""
        return double(4)

    assert "async def" in (await failure(runner, disguised, context)).message


async def test_the_callers_context_is_seen_in_the_tool(runner: ToolRunner, context: ToolContext) -> None:
    @tool
    def sync_look(call: ToolContext) -> list[str]:
        """Look."""
        return [request_id.get(), call.tenant]

    @tool
    async def async_look(call: ToolContext) -> list[str]:
        """Look."""
        return [request_id.get(), call.tenant]

    request_id.set("r-7")
    for look in (sync_look, async_look):
        assert (await run(runner, look, "{}", context)).output_json == '["r-7","acme"]'


async def test_sync_tools_run_in_threads_that_are_kept(runner: ToolRunner, context: ToolContext) -> None:
    @tool
    def where() -> str:
        """Where."""
        return threading.current_thread().name

    names = {(await run(runner, where, "{}", context)).output_json for _ in range(20)}
    assert names == {'"tool-1"'}


async def test_sync_tools_run_side_by_side(runner: ToolRunner, context: ToolContext) -> None:
    barrier = threading.Barrier(2, timeout=30)

    @tool
    def meet() -> int:
        """Meet."""
        return barrier.wait()

    results = await asyncio.gather(*[run(runner, meet, "{}", context) for _ in range(2)])
    assert {result.output_json for result in results} == {"0", "1"}


async def test_more_calls_than_threads_wait_for_their_turn(runner: ToolRunner, context: ToolContext) -> None:
    calls = [run(runner, triple, json.dumps({"number": number}), context) for number in range(50)]
    assert [int(result.output_json) for result in await asyncio.gather(*calls)] == list(range(0, 150, 3))


async def test_leaving_the_runner_cancels_what_was_abandoned(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "CANCEL_GRACE_S", SHORT_S)
    ended = asyncio.Event()

    @tool
    async def twice() -> None:
        """Needs to be told twice."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    async with ToolRunner(threads_max=1) as runner:
        await failure(runner, twice, context, SHORT_S)
        assert not ended.is_set()
    assert ended.is_set()


async def test_a_runner_that_was_left_runs_nothing_in_threads(context: ToolContext) -> None:
    async with ToolRunner(threads_max=1) as runner:
        await run(runner, triple, '{"number": 1}', context)
    with pytest.raises(RuntimeError, match="after close"):
        await run(runner, triple, '{"number": 1}', context)


async def test_leaving_the_runner_ends_its_threads(context: ToolContext) -> None:
    @tool
    def thread() -> str:
        """Thread."""
        seen.append(threading.current_thread())
        return "seen"

    seen: list[threading.Thread] = []
    async with ToolRunner(threads_max=1) as runner:
        await run(runner, thread, "{}", context)
    await asyncio.to_thread(seen[0].join, 30)
    assert not seen[0].is_alive()


def test_a_tool_that_hangs_for_ever_does_not_keep_the_process_from_exiting() -> None:
    program = """
        import asyncio, threading
        from agent_service.errors import ToolError
        from agent_service.tools.base import ToolContext
        from agent_service.tools.decorator import tool
        from agent_service.tools.runner import ToolRunner

        @tool
        def hang() -> None:
            "Hang."
            threading.Event().wait()

        async def main() -> None:
            async with ToolRunner(threads_max=1) as runner:
                try:
                    await runner.run(hang, {}, ToolContext("a", "b", "c"), timeout_s=0.01)
                except ToolError as error:
                    print(error.reason_name)

        asyncio.run(main())
        """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout == "TOOL_OUTCOME_UNKNOWN\n"


def test_a_tool_that_returns_after_its_loop_was_closed_hurts_nobody(context: ToolContext, gate: Gate) -> None:
    threads: list[threading.Thread] = []

    @tool
    def late() -> None:
        """Late."""
        threads.append(threading.current_thread())
        gate.wait()

    async def abandon() -> None:
        async with ToolRunner(threads_max=1) as runner:
            await failure(runner, late, context, SHORT_S)

    asyncio.run(abandon())
    gate.opened.set()
    threads[0].join(30)
    assert not threads[0].is_alive()

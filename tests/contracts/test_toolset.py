"""What every toolset does, whatever it is made of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent_service.errors import ToolError
from agent_service.tools.base import OUTPUT_BYTES_MAX, ToolArgumentsError, ToolContext
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import ToolResult, Toolset
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1 import tool_pb2
from tests.contracts import toolsets
from tests.contracts.toolsets import ADAPTERS

CONTEXT = ToolContext(tenant="acme", task_id="task-1", tool_call_id="call-1")
LONG_S, SHORT_S = 60.0, 0.02


@pytest.fixture(params=ADAPTERS)
async def toolset(request: pytest.FixtureRequest) -> AsyncIterator[Toolset]:
    async with ToolRunner(threads_max=4) as runner:
        toolset = ADAPTERS[request.param](runner)
        await toolset.open(lambda: None)
        yield toolset
        await toolset.close()


async def called(toolset: Toolset, name: str, arguments: str = "{}", timeout_s: float = LONG_S) -> ToolResult:
    """Call as the engine does: the arguments by the tool's own schema."""
    parsed: dict[str, Any] = next(tool for tool in toolset.tools() if tool.name == name).parse(arguments)
    return await toolset.call(name, parsed, CONTEXT, timeout_s=timeout_s)


async def failure(toolset: Toolset, name: str, timeout_s: float = LONG_S) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await called(toolset, name, timeout_s=timeout_s)
    return caught.value


async def test_it_lists_its_tools(toolset: Toolset) -> None:
    listed = {tool.name: tool for tool in toolset.tools()}
    assert set(listed) == {"add", "large", "broken", "dropped", "lost", "hang"}
    add = listed["add"]
    assert add.description == "Add two integers."
    assert json.loads(add.input_schema_json)["required"] == ["left"]
    assert add.side_effect == tool_pb2.TOOL_SIDE_EFFECT_READ_ONLY
    assert len(add.schema_digest) == 64
    assert len({tool.schema_digest for tool in (add, listed["large"])}) == 2


async def test_it_lists_the_same_tools_again(toolset: Toolset) -> None:
    assert list(toolset.tools()) == list(toolset.tools())


async def test_a_call_returns_the_result_as_json(toolset: Toolset) -> None:
    result = await called(toolset, "add", '{"left": 2, "right": 3}')
    assert json.loads(result.output_json) == {"sum": 5}
    assert not result.truncated


async def test_calls_run_side_by_side(toolset: Toolset) -> None:
    results = await asyncio.gather(*(called(toolset, "add", f'{{"left": {number}}}') for number in range(20)))
    assert [json.loads(result.output_json)["sum"] for result in results] == list(range(1, 21))


async def test_arguments_are_checked_against_the_schema(toolset: Toolset) -> None:
    with pytest.raises(ToolArgumentsError) as caught:
        await called(toolset, "add", '{"left": "two"}')
    assert [violation.field for violation in caught.value.violations] == ["left"]


async def test_a_result_is_cut_to_its_bound(toolset: Toolset) -> None:
    result = await called(toolset, "large")
    assert result.truncated
    assert len(result.output_json.encode()) <= OUTPUT_BYTES_MAX
    assert isinstance(json.loads(result.output_json), str)


async def test_a_tool_that_fails_is_an_error_without_its_text(toolset: Toolset) -> None:
    error = await failure(toolset, "broken")
    assert error.reason == reasons.ERROR_REASON_TOOL_FAILED
    assert "42" not in error.message


async def test_an_inner_cancellation_is_an_error_and_no_cancellation(toolset: Toolset) -> None:
    error = await failure(toolset, "dropped")
    assert error.reason in (reasons.ERROR_REASON_TOOL_FAILED, reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN)


async def test_a_call_that_was_lost_has_an_unknown_outcome(toolset: Toolset) -> None:
    error = await failure(toolset, "lost")
    assert error.reason == reasons.ERROR_REASON_TOOL_OUTCOME_UNKNOWN
    assert not error.retryable


async def test_a_name_that_is_not_listed_is_not_found(toolset: Toolset) -> None:
    with pytest.raises(ToolError) as caught:
        await toolset.call("subtract", {}, CONTEXT, timeout_s=LONG_S)
    assert caught.value.reason == reasons.ERROR_REASON_TOOL_NOT_FOUND


async def test_a_call_ends_at_its_timeout(toolset: Toolset) -> None:
    assert (await failure(toolset, "hang", SHORT_S)).reason == reasons.ERROR_REASON_TOOL_TIMEOUT


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_a_call_without_time_is_not_begun(toolset: Toolset, timeout_s: float) -> None:
    assert (await failure(toolset, "large", timeout_s)).retryable


async def test_cancelling_a_call_ends_in_a_cancellation(toolset: Toolset) -> None:
    started = toolsets.started[CONTEXT.task_id] = asyncio.Event()
    call = asyncio.create_task(called(toolset, "hang"))
    await started.wait()
    del toolsets.started[CONTEXT.task_id]
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

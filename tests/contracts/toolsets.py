"""The toolsets that the contract is run on. A new adapter is one more entry in `ADAPTERS`, with the tools below."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from agent_service.errors import ToolError
from agent_service.tools import loading
from agent_service.tools.base import OUTPUT_BYTES_MAX, ToolContext
from agent_service.tools.decorator import tool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import Toolset
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_OUTCOME_UNKNOWN
from tests.fakes.changing_toolset import ChangingToolset

NEVER_S = 3600.0
# Set by `hang` when it runs for a task, by the id of the task.
started: dict[str, asyncio.Event] = {}


@tool(side_effect="read_only")
async def add(left: int, right: int = 1) -> dict[str, int]:
    """Add two integers."""
    return {"sum": left + right}


@tool(side_effect="idempotent")
def large() -> str:
    """Return more than a result may have."""
    return "x" * (OUTPUT_BYTES_MAX + 1)


@tool(side_effect="side_effecting")
async def broken() -> None:
    """Fail, with a text that may be a secret."""
    raise RuntimeError("the password is 42")


@tool(side_effect="side_effecting")
async def dropped() -> None:
    """End as a call of a library does that cancels its callers when its connection breaks."""
    raise asyncio.CancelledError


@tool(side_effect="side_effecting")
async def lost() -> None:
    """Lose the connection after the call was sent."""
    raise ToolError("the connection was lost", reason=ERROR_REASON_TOOL_OUTCOME_UNKNOWN)


@tool(side_effect="read_only", timeout_s=NEVER_S)
async def hang(context: ToolContext) -> None:
    """Run for longer than any test."""
    if context.task_id in started:
        started[context.task_id].set()
    await asyncio.sleep(NEVER_S)


DECLARED = (add, large, broken, dropped, lost, hang)


def declared(runner: ToolRunner) -> Toolset:
    return PythonToolset(DECLARED, runner)


def of_module(runner: ToolRunner) -> Toolset:
    return PythonToolset(loading.module_tools(__name__), runner)


def of_entry_points(runner: ToolRunner) -> Toolset:
    offered = EntryPoints([EntryPoint("mine", __name__, loading.ENTRY_POINT_GROUP)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loading, "entry_points", offered.select)
        return PythonToolset(loading.entry_point_tools(), runner)


def changing(runner: ToolRunner) -> Toolset:
    return ChangingToolset(DECLARED, runner)


ADAPTERS: dict[str, Callable[[ToolRunner], Toolset]] = {
    "declared": declared,
    "module": of_module,
    "entry points": of_entry_points,
    "changing": changing,
}

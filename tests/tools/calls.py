"""What the tests of the runner call, and hold."""

import asyncio
import threading
from typing import Any

import pytest

from agent_service.errors import ToolError
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import AnyFunctionTool, tool
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import ToolResult

SHORT_S = 0.02


class Gate:
    """Holds sync tools in their threads until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def wait(self) -> None:
        self.entered.release()
        self.opened.wait(30)

    async def entered_once(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


@tool(side_effect="read_only")
async def double(number: int) -> int:
    """Double."""
    return 2 * number


@tool(side_effect="read_only")
def triple(number: int) -> int:
    """Triple."""
    return 3 * number


async def run(
    runner: ToolRunner, made: AnyFunctionTool, arguments_json: str, context: ToolContext, timeout_s: float = 30
) -> ToolResult:
    return await runner.run(made, made.parse(arguments_json), context, timeout_s=timeout_s)


async def failure(runner: ToolRunner, made: Any, context: ToolContext, timeout_s: float = 30) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await run(runner, made, "{}", context, timeout_s)
    return caught.value

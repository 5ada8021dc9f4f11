"""The toolset of Python functions: the built-in tools, and those of modules and installed packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agent_service.errors import ToolError
from agent_service.tools.base import Tool, ToolContext
from agent_service.tools.decorator import AnyFunctionTool
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import ToolResult
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_NOT_FOUND


class PythonToolset:
    """A fixed list of functions. They run in `runner`, which the toolsets of a process share and do not close."""

    def __init__(self, tools: Iterable[AnyFunctionTool], runner: ToolRunner) -> None:
        self._tools = tuple(tools)
        self._by_name = {tool.name: tool for tool in self._tools}
        self._runner = runner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PythonToolset) and (self._tools, self._runner) == (other._tools, other._runner)

    __hash__ = None  # type: ignore[assignment]  # compared, but never used as a key

    async def open(self, on_change: Callable[[], None]) -> None:
        """Functions need no connection, and their list never changes."""

    def tools(self) -> Sequence[Tool]:
        return self._tools

    async def call(
        self, name: str, arguments: Mapping[str, Any], context: ToolContext, *, timeout_s: float
    ) -> ToolResult:
        tool = self._by_name.get(name)
        if tool is None:
            raise ToolError("there is no such tool", reason=ERROR_REASON_TOOL_NOT_FOUND)
        return await self._runner.run(tool, arguments, context, timeout_s=timeout_s)

    async def close(self) -> None:
        """Do nothing: the owner of the runner stops running calls."""

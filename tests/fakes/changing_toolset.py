"""A toolset whose list changes while it is open, as that of a remote server does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agent_service.errors import ConfigError
from agent_service.tools.base import Tool, ToolContext
from agent_service.tools.decorator import AnyFunctionTool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import ToolResult


class ChangingToolset:
    """`opened` and `closed` count; `is_there` says whether it can be opened."""

    def __init__(self, tools: Iterable[AnyFunctionTool], runner: ToolRunner, *, is_there: bool = True) -> None:
        self.opened = self.closed = 0
        self.is_there = is_there
        self._runner = runner
        self._listed = PythonToolset(tools, runner)
        self._on_change: Callable[[], None] = lambda: None

    async def open(self, on_change: Callable[[], None]) -> None:
        if not self.is_there:
            raise ConfigError(["the server is not there"])
        self.opened += 1
        self._on_change = on_change

    def tools(self) -> Sequence[Tool]:
        return self._listed.tools()

    def change(self, *tools: AnyFunctionTool) -> None:
        """Have these tools from now on."""
        self._listed = PythonToolset(tools, self._runner)
        self._on_change()

    async def call(
        self, name: str, arguments: Mapping[str, Any], context: ToolContext, *, timeout_s: float
    ) -> ToolResult:
        return await self._listed.call(name, arguments, context, timeout_s=timeout_s)

    async def close(self) -> None:
        self.closed += 1

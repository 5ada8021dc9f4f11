"""The toolset port, a source of tools with a lifetime; and the open toolsets of a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Protocol

from agent_service.tools.base import Tool, ToolContext


class ToolResult(NamedTuple):
    """The result of a tool, as JSON text.

    `truncated`: it exceeded OUTPUT_BYTES_MAX, so `output_json` is a JSON string with its beginning.
    """

    output_json: str
    truncated: bool = False


class Toolset(Protocol):
    """A source of tools. Equal toolsets are the same source; a process opens it once.

    A task keeps the toolsets that it started with, so a toolset stays open for the life of the process, even if the
    configuration no longer names it after a reload.
    """

    async def open(self, on_change: Callable[[], None]) -> None:
        """Connect and list the tools. After that, call `on_change` on the event loop whenever `tools` has changed.

        Raises:
            ConfigError: the source cannot be opened; nothing is left open.
        """
        ...

    def tools(self) -> Sequence[Tool]:
        """Return the latest list of tools."""
        ...

    async def call(
        self, name: str, arguments: Mapping[str, Any], context: ToolContext, *, timeout_s: float
    ) -> ToolResult:
        """Run a tool for at most `timeout_s` seconds. `arguments` is the result of its `parse`.

        Cancelling ends in CancelledError soon, even if the tool cannot be stopped. Only cancelling does: a lost
        connection, or an adapter's own cancellation, is a ToolError.

        Raises:
            ToolError: TOOL_NOT_FOUND, the toolset has no such tool. TOOL_FAILED, the tool failed. TOOL_TIMEOUT, it did
                not finish in time. TOOL_OUTCOME_UNKNOWN, it is side-effecting, was started, and may have taken
                effect, such as a call whose connection was lost.
        """
        ...

    async def close(self) -> None:
        """Disconnect. Does not wait for calls; running calls end in a ToolError or in CancelledError."""
        ...


class Toolsets:
    """The open toolsets of a process; `stack` closes them at its end. `on_change` is called when any list changed."""

    def __init__(self, stack: AsyncExitStack, on_change: Callable[[], None]) -> None:
        self._stack = stack
        self._on_change = on_change
        self._open: list[Toolset] = []

    async def open(self, toolset: Toolset) -> Toolset:
        """Open a toolset, unless an equal one is open, and return the open one.

        Raises:
            ConfigError: it cannot be opened.
        """
        if toolset in self._open:
            return self._open[self._open.index(toolset)]
        await toolset.open(self._on_change)
        self._stack.push_async_callback(toolset.close)
        self._open.append(toolset)
        return toolset

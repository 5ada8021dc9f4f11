"""The port through which a process has tools: a source of tools with a lifetime; and those that a process has open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from agent_service.tools.base import Tool, ToolContext


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned, as JSON text.

    `truncated`: it was above OUTPUT_BYTES_MAX, so `output_json` is a JSON string with its beginning.
    `duration_s`: seconds that the tool ran, without the wait for a thread.
    """

    output_json: str
    truncated: bool
    duration_s: float


class Toolset(Protocol):
    """A source of tools. Two that are equal are the same source; a process opens it once.

    A task keeps the toolsets that it began with, so one stays open as long as the process, also after a reload that no
    longer names it.
    """

    async def open(self, on_change: Callable[[], None]) -> None:
        """Connect and list the tools. From then on call `on_change`, on the event loop, whenever `tools` has changed.

        Raises:
            ConfigError: the source cannot be had; nothing is left open.
        """
        ...

    def tools(self) -> Sequence[Tool]:
        """Return the tools as they were last listed."""
        ...

    async def call(
        self, name: str, arguments: Mapping[str, Any], context: ToolContext, *, timeout_s: float
    ) -> ToolResult:
        """Run a tool for at most min(its `timeout_s`, `timeout_s`) seconds. `arguments` is what its `parse` returned.

        Cancelling ends in CancelledError, soon, whether or not the tool can be stopped; nothing else does: a
        connection that is lost, or an adapter's own cancellation, is a ToolError.

        Raises:
            ToolError: TOOL_NOT_FOUND, the toolset has no such tool. TOOL_FAILED, the tool failed. TOOL_TIMEOUT, it did
                not finish in time. TOOL_OUTCOME_UNKNOWN, it is side-effecting, was started, and may or may not have
                taken effect: so of a call whose connection was lost.
        """
        ...

    async def close(self) -> None:
        """Disconnect. Waits for no call; those under way end in a ToolError or in CancelledError."""
        ...


class Toolsets:
    """The open toolsets of a process; `stack` closes them at its end. `on_change` is called when any list changed."""

    def __init__(self, stack: AsyncExitStack, on_change: Callable[[], None]) -> None:
        self._stack = stack
        self._on_change = on_change
        self._open: list[Toolset] = []

    async def open(self, toolset: Toolset) -> Toolset:
        """Open a toolset, unless an equal one is open; return the one that is.

        Raises:
            ConfigError: it cannot be had.
        """
        if toolset in self._open:
            return self._open[self._open.index(toolset)]
        await toolset.open(self._on_change)
        self._stack.push_async_callback(toolset.close)
        self._open.append(toolset)
        return toolset

"""The tools of one configuration by name, each with its toolset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from agent_service.errors import ConfigError, NotFoundError
from agent_service.text.suggestions import did_you_mean
from agent_service.tools.base import Tool
from agent_service.tools.toolset import Toolset
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_NOT_FOUND

NAME_CHARACTERS_MAX = 64


class ToolRegistry:
    """Tools by name, as listed by their toolsets when these were added. Iteration is sorted by name.

    `toolsets` has the toolset of each tool, by the tool's name.
    """

    def __init__(self, toolsets: Iterable[Toolset] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._toolsets: dict[str, Toolset] = {}
        self.toolsets: Mapping[str, Toolset] = MappingProxyType(self._toolsets)
        for toolset in toolsets:
            self.add(toolset)

    def __iter__(self) -> Iterator[Tool]:
        return iter([self._tools[name] for name in self.names()])

    def names(self) -> tuple[str, ...]:
        """Return the sorted names of all tools."""
        return tuple(sorted(self._tools))

    def get(self, name: str) -> Tool:
        """Return the tool of that name.

        Raises:
            NotFoundError: TOOL_NOT_FOUND, with a similar name if there is one.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise self._not_found(name)
        return tool

    def add(self, toolset: Toolset) -> None:
        """Add the tools of a toolset, all or none. The same tool object may be in several toolsets; the first is used.

        Raises:
            ConfigError: other tools have the same names; each problem names both.
        """
        added: dict[str, Tool] = {}
        problems: list[str] = []
        for tool in toolset.tools():
            other = added.get(tool.name) or self._tools.get(tool.name)
            if other is None:
                added[tool.name] = tool
            elif other is not tool:
                both = f"{other.origin or 'unknown origin'} and {tool.origin or 'unknown origin'}"
                problems.append(f"two tools are named {tool.name!r}: {both}")
        if problems:
            raise ConfigError(problems)
        self._tools |= added
        self._toolsets |= dict.fromkeys(added, toolset)

    def _not_found(self, name: str) -> NotFoundError:
        # Names come from models and callers: truncated before they are compared or repeated.
        name = name[:NAME_CHARACTERS_MAX]
        message = f"there is no tool {name!r}{did_you_mean(name, self._tools, written=repr)}"
        return NotFoundError(ERROR_REASON_TOOL_NOT_FOUND, message, metadata={"tool": name})

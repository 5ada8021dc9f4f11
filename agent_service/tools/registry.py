"""The tools that a process has, by name. Made and filled by the composition root; there is no global one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from types import ModuleType

from agent_service.errors import ConfigError, NotFoundError
from agent_service.text.suggestions import did_you_mean
from agent_service.tools.base import Tool
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_NOT_FOUND

ENTRY_POINT_GROUP = "agent_service.tools"
NAME_CHARACTERS_MAX = 64


class ToolRegistry:
    """Tools by name. Iterating gives them sorted by name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._add(tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter([self._tools[name] for name in self.names()])

    def names(self) -> tuple[str, ...]:
        """The names of all tools, sorted."""
        return tuple(sorted(self._tools))

    def get(self, name: str) -> Tool:
        """The tool of that name.

        Raises:
            NotFoundError: TOOL_NOT_FOUND, with the name that was probably meant.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise self._not_found(name)
        return tool

    def register(self, tool: Tool) -> None:
        """Add a tool. Adding the very same one again changes nothing.

        Raises:
            ConfigError: another tool has that name; the problem names both.
        """
        self._add([tool])

    def register_module(self, module_name: str) -> None:
        """Import a module (`package.module`) and add every tool among its names, imported ones too; all or none.

        Raises:
            ConfigError: it cannot be imported, has no tool, or a name is taken.
        """
        self._add(_load(f"tools module {module_name!r}", lambda: importlib.import_module(module_name)))

    def register_entry_points(self) -> None:
        """Add the tools that installed distributions offer in the entry-point group `agent_service.tools`; all or none.

        An entry point names a tool, a module with tools, or a list of tools.

        Raises:
            ConfigError: some cannot be loaded, offer no tool, or a name is taken; all problems at once.
        """
        tools: list[Tool] = []
        problems: list[str] = []
        for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda found: (found.name, found.value)):
            label = f"entry point {entry_point.name!r} ({entry_point.value})"
            try:
                tools += _load(label, entry_point.load)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        self._add(tools)

    def _add(self, tools: Iterable[Tool]) -> None:
        added: dict[str, Tool] = {}
        problems: list[str] = []
        for tool in tools:
            other = added.get(tool.name) or self._tools.get(tool.name)
            if other is None:
                added[tool.name] = tool
            elif other is not tool:
                both = f"{other.origin or 'unknown origin'} and {tool.origin or 'unknown origin'}"
                problems.append(f"two tools are named {tool.name!r}: {both}")
        if problems:
            raise ConfigError(problems)
        self._tools |= added

    def _not_found(self, name: str) -> NotFoundError:
        # Names come from models and callers: bounded before they are compared or told.
        name = name[:NAME_CHARACTERS_MAX]
        message = f"there is no tool {name!r}{did_you_mean(name, self._tools, written=repr)}"
        return NotFoundError(ERROR_REASON_TOOL_NOT_FOUND, message, metadata={"tool": name})


def _load(label: str, load: Callable[[], object]) -> list[Tool]:
    """What foreign code has to offer; every problem with it begins with the label."""
    try:
        found = load()
    except ConfigError as error:  # a tool in it is declared wrongly
        raise ConfigError([f"{label}: {problem}" for problem in error.problems]) from error
    except (Exception, SystemExit) as error:
        raise ConfigError([f"{label}: cannot be loaded: {_told(error)}"]) from error
    if isinstance(found, Tool):
        return [found]
    candidates = vars(found).values() if isinstance(found, ModuleType) else found
    tools = [tool for tool in candidates if isinstance(tool, Tool)] if isinstance(candidates, Iterable) else []
    if not tools:
        raise ConfigError([f"{label}: has no tool: declare one with @tool"])
    return tools


def _told(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

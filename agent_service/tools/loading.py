"""Imports the tools of a module, and those of installed packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from types import ModuleType

from agent_service.errors import ConfigError
from agent_service.tools.decorator import AnyFunctionTool, FunctionTool

ENTRY_POINT_GROUP = "agent_service.tools"


def module_tools(module_name: str) -> list[AnyFunctionTool]:
    """Import a module (`package.module`) and return all tools among its names, including imported ones.

    Raises:
        ConfigError: it cannot be imported, or has no tool.
    """
    return _load(f"tools module {module_name!r}", lambda: importlib.import_module(module_name))


def entry_point_tools() -> list[AnyFunctionTool]:
    """Return the tools that installed distributions provide in the entry-point group `agent_service.tools`.

    An entry point names a tool, a module with tools, or a list of tools.

    Raises:
        ConfigError: some cannot be loaded, or contain no tool; all problems at once.
    """
    tools: list[AnyFunctionTool] = []
    problems: list[str] = []
    for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda found: (found.name, found.value)):
        label = f"entry point {entry_point.name!r} ({entry_point.value})"
        try:
            tools += _load(label, entry_point.load)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return tools


def _load(label: str, load: Callable[[], object]) -> list[AnyFunctionTool]:
    """Return the tools in an object loaded from foreign code; each problem begins with the label."""
    try:
        found = load()
    except ConfigError as error:  # it declares an invalid tool
        raise ConfigError([f"{label}: {problem}" for problem in error.problems]) from error
    except (Exception, SystemExit) as error:
        raise ConfigError([f"{label}: cannot be loaded: {_in_words(error)}"]) from error
    if isinstance(found, FunctionTool):
        return [found]
    candidates = vars(found).values() if isinstance(found, ModuleType) else found
    tools = [tool for tool in candidates if isinstance(tool, FunctionTool)] if isinstance(candidates, Iterable) else []
    if not tools:
        raise ConfigError([f"{label}: has no tool: declare one with @tool"])
    return tools


def _in_words(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

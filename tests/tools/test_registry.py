from collections.abc import Iterable

import pytest

from agent_service.errors import ConfigError, NotFoundError
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.decorator import AnyFunctionTool, FunctionTool, tool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_NOT_FOUND


def named(name: str) -> FunctionTool[[], None]:
    def nothing() -> None:
        """Nothing."""

    return tool(nothing, name=name)


def toolset(tools: Iterable[AnyFunctionTool]) -> PythonToolset:
    return PythonToolset(tools, ToolRunner())


def builtin() -> ToolRegistry:
    return ToolRegistry([toolset(BUILTIN_TOOLS)])


def test_tools_come_out_sorted_by_name_each_with_its_toolset() -> None:
    first, second = toolset([named("b"), named("a")]), toolset([named("aa")])
    tools = ToolRegistry([first])
    tools.add(second)
    assert tools.names() == ("a", "aa", "b")
    assert [tool.name for tool in tools] == ["a", "aa", "b"]
    assert [tools.toolsets[name] for name in tools.names()] == [first, second, first]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="there is no tool 'calculater'; did you mean 'calculator'") as caught:
        builtin().get("calculater")
    assert caught.value.reason == ERROR_REASON_TOOL_NOT_FOUND
    assert caught.value.metadata == {"tool": "calculater"}


def test_a_huge_unknown_name_is_cut() -> None:
    with pytest.raises(NotFoundError) as caught:
        builtin().get("x" * 1_000_000)
    assert caught.value.metadata == {"tool": "x" * 64}
    assert len(caught.value.message) < 100


def test_two_tools_of_one_name_are_refused_naming_both() -> None:
    with pytest.raises(ConfigError) as caught:
        builtin().add(toolset([named("echo")]))
    (problem,) = caught.value.problems
    assert "two tools are named 'echo'" in problem
    assert "agent_service.tools.builtin.echo:echo" in problem
    assert "test_registry:named.<locals>.nothing" in problem


def test_the_very_same_tool_may_come_twice() -> None:
    tools = builtin()
    first = tools.toolsets["echo"]
    tools.add(toolset(BUILTIN_TOOLS))
    assert len(tools.names()) == len(BUILTIN_TOOLS)
    assert tools.toolsets["echo"] is first


def test_a_toolset_with_a_name_that_is_taken_brings_nothing() -> None:
    tools = builtin()
    with pytest.raises(ConfigError, match="two tools are named 'echo'"):
        tools.add(toolset([named("fine"), named("echo")]))
    assert "fine" not in tools.names()

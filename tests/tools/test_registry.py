import textwrap
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from agent_service.errors import ConfigError, NotFoundError
from agent_service.tools import registry as registry_module
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.decorator import FunctionTool, tool
from agent_service.tools.registry import ToolRegistry
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_NOT_FOUND

WriteModule = Callable[[str, str], str]


def named(name: str) -> FunctionTool[[], None]:
    def nothing() -> None:
        """Nothing."""

    return tool(nothing, name=name)


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(
            "from agent_service.tools.decorator import tool\n" + textwrap.dedent(source)
        )
        return name

    return write


def offer(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    points = EntryPoints(EntryPoint(f"p{index}", value, "agent_service.tools") for index, value in enumerate(values))
    monkeypatch.setattr(registry_module, "entry_points", points.select)


def test_tools_come_out_sorted_by_name() -> None:
    tools = ToolRegistry([named("b"), named("a")])
    tools.register(named("aa"))
    assert tools.names() == ("a", "aa", "b")
    assert [tool.name for tool in tools] == ["a", "aa", "b"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="there is no tool 'calculater'; did you mean 'calculator'") as caught:
        ToolRegistry(BUILTIN_TOOLS).get("calculater")
    assert caught.value.reason == ERROR_REASON_TOOL_NOT_FOUND
    assert caught.value.metadata == {"tool": "calculater"}


def test_a_huge_unknown_name_is_cut() -> None:
    with pytest.raises(NotFoundError) as caught:
        ToolRegistry(BUILTIN_TOOLS).get("x" * 1_000_000)
    assert caught.value.metadata == {"tool": "x" * 64}
    assert len(caught.value.message) < 100


def test_two_tools_of_one_name_are_refused_naming_both() -> None:
    tools = ToolRegistry(BUILTIN_TOOLS)
    with pytest.raises(ConfigError) as caught:
        tools.register(named("echo"))
    (problem,) = caught.value.problems
    assert "two tools are named 'echo'" in problem
    assert "agent_service.tools.builtin.echo:echo" in problem
    assert "test_registry:named.<locals>.nothing" in problem


def test_the_very_same_tool_may_come_twice() -> None:
    tools = ToolRegistry(BUILTIN_TOOLS)
    tools.register(BUILTIN_TOOLS[0])
    assert len(tools.names()) == len(BUILTIN_TOOLS)


def test_a_module_brings_all_its_tools(write_module: WriteModule) -> None:
    name = write_module(
        "registry_two",
        '''
        from agent_service.tools.builtin.echo import echo

        @tool
        def one() -> int:
            """One."""

        @tool
        def two() -> int:
            """Two."""

        again = two
        ''',
    )
    tools = ToolRegistry(BUILTIN_TOOLS)
    tools.register_module(name)
    assert set(tools.names()) - {builtin.name for builtin in BUILTIN_TOOLS} == {"one", "two"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise RuntimeError('first\\nsecond')", "cannot be loaded: RuntimeError: first"),
        ("raise SystemExit", "cannot be loaded: SystemExit"),
        ("import no_such_module_at_all", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("x = = 1", "cannot be loaded: SyntaxError: invalid syntax"),
        ("x = 1", "has no tool"),
        ("@tool\ndef bare(x): 'Bare.'", "parameter 'x' has no annotation"),
    ],
)
def test_a_module_that_brings_none_is_one_clear_line(write_module: WriteModule, source: str, problem: str) -> None:
    name = write_module(f"registry_bad_{abs(hash(source))}", source)
    with pytest.raises(ConfigError) as caught:
        ToolRegistry().register_module(name)
    (told,) = caught.value.problems
    assert told.startswith(f"tools module '{name}': ")
    assert problem in told
    assert "\n" not in told


def test_a_module_with_a_name_that_is_taken_brings_nothing(write_module: WriteModule) -> None:
    source = """
        @tool
        def fine() -> int:
            'Fine.'

        @tool
        def echo() -> int:
            'Another.'
        """
    tools = ToolRegistry(BUILTIN_TOOLS)
    with pytest.raises(ConfigError, match="two tools are named 'echo'"):
        tools.register_module(write_module("registry_taken", source))
    assert "fine" not in tools.names()


def test_entry_points_bring_tools_modules_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    builtin = "agent_service.tools.builtin"
    offer(monkeypatch, f"{builtin}.echo:echo", f"{builtin}.calculator", f"{builtin}:BUILTIN_TOOLS")
    tools = ToolRegistry()
    tools.register_entry_points()
    assert tools.names() == ("calculator", "current_time", "echo", "json_query")


def test_all_entry_points_that_fail_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "no_such_module_at_all:x", "json", "json:dumps", "agent_service.tools.builtin.echo:echo")
    tools = ToolRegistry()
    with pytest.raises(ConfigError) as caught:
        tools.register_entry_points()
    first, second, third = caught.value.problems
    assert first.startswith("entry point 'p0' (no_such_module_at_all:x): cannot be loaded: ModuleNotFoundError")
    assert second == "entry point 'p1' (json): has no tool: declare one with @tool"
    assert third == "entry point 'p2' (json:dumps): has no tool: declare one with @tool"
    assert tools.names() == ()


def test_no_entry_points_are_no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch)
    tools = ToolRegistry()
    tools.register_entry_points()
    assert tools.names() == ()

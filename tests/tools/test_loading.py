import textwrap
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from agent_service.errors import ConfigError
from agent_service.tools import loading
from agent_service.tools.loading import entry_point_tools, module_tools

WriteModule = Callable[[str, str], str]


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
    monkeypatch.setattr(loading, "entry_points", points.select)


def test_a_module_brings_all_its_tools(write_module: WriteModule) -> None:
    name = write_module(
        "loading_two",
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
    assert [tool.name for tool in module_tools(name)] == ["echo", "one", "two", "two"]


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
    name = write_module(f"loading_bad_{abs(hash(source))}", source)
    with pytest.raises(ConfigError) as caught:
        module_tools(name)
    (told,) = caught.value.problems
    assert told.startswith(f"tools module '{name}': ")
    assert problem in told
    assert "\n" not in told


def test_entry_points_bring_tools_modules_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    builtin = "agent_service.tools.builtin"
    offer(monkeypatch, f"{builtin}.echo:echo", f"{builtin}.calculator", f"{builtin}:BUILTIN_TOOLS")
    assert {tool.name for tool in entry_point_tools()} == {"calculator", "current_time", "echo", "json_query"}


def test_all_entry_points_that_fail_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "no_such_module_at_all:x", "json", "json:dumps", "agent_service.tools.builtin.echo:echo")
    with pytest.raises(ConfigError) as caught:
        entry_point_tools()
    first, second, third = caught.value.problems
    assert first.startswith("entry point 'p0' (no_such_module_at_all:x): cannot be loaded: ModuleNotFoundError")
    assert second == "entry point 'p1' (json): has no tool: declare one with @tool"
    assert third == "entry point 'p2' (json:dumps): has no tool: declare one with @tool"


def test_no_entry_points_are_no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch)
    assert entry_point_tools() == []

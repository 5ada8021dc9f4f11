"""Which toolsets a process has open, and when its catalog has their tools."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_service.bootstrap import catalog as catalog_module
from agent_service.bootstrap import process as process_module
from agent_service.bootstrap.process import Process, running
from agent_service.config.loader import Config, load
from agent_service.errors import ConfigError
from agent_service.keys.base import Principal
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.builtin.echo import echo
from agent_service.tools.decorator import AnyFunctionTool, tool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import Toolsets
from tests.fakes.changing_toolset import ChangingToolset
from tests.harness import KEY

EVERYTHING = Principal(tenant="t", key_id="k", scopes=frozenset())


@tool(side_effect="read_only")
async def added_later() -> str:
    """Comes with a change of the list."""
    return ""


class Server:
    """Stands in for the source of the built-in tools: one toolset, whatever often the configuration is read."""

    def __init__(self) -> None:
        self.toolset = ChangingToolset(BUILTIN_TOOLS, ToolRunner())

    def __call__(self, tools: Iterable[AnyFunctionTool], runner: ToolRunner) -> PythonToolset | ChangingToolset:
        made = tuple(tools)
        return self.toolset if made == BUILTIN_TOOLS else PythonToolset(made, runner)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(catalog_module, "PythonToolset", server)
    # It changes the logging and the warnings of the whole process, for all tests to come.
    monkeypatch.setattr(process_module, "capture_libraries", lambda *_: None)
    return server


def config(tmp_path: Path) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text("agents: {a: {model: default, tools: [echo]}}\n")
    environ = {
        "API_HOST": "127.0.0.1",
        "API_KEY": KEY,
        "API_PORT": "0",
        "HEALTH_PORT": "0",
        "METRICS_PORT": "0",
        "LLM_PROVIDER": "scripted",
        "AGENT_SERVICE_CONFIG_PATH": str(path),
        "DATABASE_URL": "memory:",
    }
    return load(environ, dotenv_path=None)


def listed(process: Process) -> set[str]:
    return {described.name for described in process.service.runtimes.catalog.list_tools(EVERYTHING)}


async def test_a_toolset_is_opened_once_and_closed_with_the_process(server: Server, tmp_path: Path) -> None:
    async with running(config(tmp_path), lambda: None) as process:
        assert server.toolset.opened == 1
        assert await process.reload(lambda: config(tmp_path))
        assert (server.toolset.opened, server.toolset.closed) == (1, 0)
    assert (server.toolset.opened, server.toolset.closed) == (1, 1)


async def test_a_changed_list_is_in_the_next_catalog(server: Server, tmp_path: Path) -> None:
    changes: list[str] = []
    async with running(config(tmp_path), lambda: changes.append("changed")) as process:
        before = listed(process)
        server.toolset.change(echo, added_later)
        assert changes == ["changed"]
        assert listed(process) == before
        assert await process.reload(lambda: config(tmp_path))
        assert listed(process) == {"echo", "added_later"}


async def test_a_list_without_a_tool_that_an_agent_has_changes_nothing(server: Server, tmp_path: Path) -> None:
    async with running(config(tmp_path), lambda: None) as process:
        before = listed(process)
        server.toolset.change(added_later)
        assert not await process.reload(lambda: config(tmp_path))
        assert listed(process) == before


async def test_a_source_that_is_not_there_ends_the_start(server: Server, tmp_path: Path) -> None:
    server.toolset.is_there = False
    with pytest.raises(ConfigError, match="the server is not there"):
        async with running(config(tmp_path), lambda: None):
            pass
    assert (server.toolset.opened, server.toolset.closed) == (0, 0)


async def test_functions_that_are_loaded_again_are_the_same_toolset() -> None:
    async with AsyncExitStack() as stack:
        toolsets, runner = Toolsets(stack, lambda: None), ToolRunner()
        first = await toolsets.open(PythonToolset([echo], runner))
        assert await toolsets.open(PythonToolset([echo], runner)) is first
        assert await toolsets.open(PythonToolset([added_later], runner)) is not first

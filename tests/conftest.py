"""What every test may use."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from agent_service.agents.base import AgentState
from agent_service.config.model_entry import Model as ModelConfig
from agent_service.llm.base import Model
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.llm.scripted import ScriptedModel, default_script
from agent_service.tools.base import Tool
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.decorator import tool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner

pytest_plugins = ["pytester", "tests.plugins.schedule", "tests.plugins.toolchain"]

NOBODY = 65534

# Every run draws the same examples, on every machine: no database of earlier failures, no deadlines. The option
# `--hypothesis-profile=default` draws others.
settings.load_profile("ci")


def pytest_configure() -> None:
    # A background shell starts pytest with these ignored, and what tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture
def mock_llm() -> Model:
    """The model that stands in for a real one in the product too: scripted, behind the retries that tell the engine of
    every request. Where a test is about what the model says, `tests.harness.FakeModel` takes its words.
    """
    return Retrying(ScriptedModel(default_script()), "mock", RetryBudget())


@pytest.fixture
def model_config() -> ModelConfig:
    """A model as a configuration file declares it."""
    return ModelConfig(name="test-gpt4", provider="openai", model_id="gpt-4", temperature=0.7, max_tokens=2048)


@pytest.fixture
def agent_context() -> AgentState:
    """All that an agent knows when it decides: nothing yet, until a test adds messages, calls or results."""
    return AgentState()


@pytest.fixture
def tool_registry() -> ToolRegistry:
    """What a process has whose configuration names no tools: the built-in ones."""
    return ToolRegistry([PythonToolset(BUILTIN_TOOLS, ToolRunner())])


@pytest.fixture
def sample_tool(tool_registry: ToolRegistry) -> Tool:
    """A registered tool that gives back the text it is given."""

    @tool(name="test_echo", description="Echo back input", side_effect="read_only")
    def test_echo(text: str = "") -> str:
        return text

    tool_registry.add(PythonToolset([test_echo], ToolRunner()))
    return test_echo


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of a user who is not root, as whom the test runs: file modes do not bind root."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(name)
        finally:
            os.setresuid(0, 0, 0)

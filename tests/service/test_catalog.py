"""The catalog that a configuration makes: which calls wait for approval, and what every task begins with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_service.bootstrap.catalog import CatalogBuilder
from agent_service.bootstrap.models import ModelBuilder
from agent_service.config.loader import load
from agent_service.keys.base import Principal
from agent_service.service.catalog import Catalog
from agent_service.tools.decorator import tool
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import Toolsets
from agent_service.v1.task_event_pb2 import TaskSubmitted
from agent_service.v1.task_pb2 import TASK_KIND_TOOL

# Registered from this module, as an author's are.
MODULE = __name__
EVERYTHING = Principal(tenant="t", key_id="k", scopes=frozenset())


@tool(side_effect="read_only", approval="always")
def read_secret() -> str:
    """Always asks."""
    return ""


@tool(side_effect="side_effecting", approval="side_effecting")
def pay() -> str:
    """Asks because it pays."""
    return ""


@tool(side_effect="side_effecting")
def send() -> str:
    """Never asks by itself."""
    return ""


@tool(side_effect="idempotent", approval="side_effecting")
def put() -> str:
    """May be done again, so it does not ask."""
    return ""


Build = Callable[[str], Awaitable[Catalog]]


@pytest.fixture
async def build(tmp_path: Path) -> Build:
    async def built(fields: str) -> Catalog:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"agents: {{a: {{model: default, tools: [read_secret, pay, send, put], {fields}}}}}\n"
            f"tools: {{modules: [{MODULE}]}}\n"
        )
        environ = {"LLM_PROVIDER": "scripted", "AGENT_SERVICE_CONFIG_PATH": str(path), "DATABASE_URL": "memory:"}
        async with AsyncExitStack() as stack:
            builder = CatalogBuilder(ModelBuilder(stack), Toolsets(stack, lambda: None), ToolRunner())
            return await builder.build(load(environ, dotenv_path=None))

    return built


@pytest.mark.parametrize(
    ("approval", "waiting"),
    [
        ("", {"read_secret", "pay"}),
        ("approval: always", {"read_secret", "pay", "send", "put"}),
        ("approval: never", set()),
        ("approval: side_effecting", {"pay", "send"}),
        ("approval: {send: always, read_secret: never}", {"pay", "send"}),
        ("approval: {put: side_effecting, send: side_effecting}", {"read_secret", "pay", "send"}),
    ],
)
async def test_what_the_agent_says_of_a_tool_wins_and_else_the_tools_own_rule_holds(
    build: Build, approval: str, waiting: set[str]
) -> None:
    assert (await build(approval)).agents["a"].runtime.needs_approval == waiting


async def test_what_callers_read_of_a_tool_is_its_own_rule_whatever_an_agent_says(build: Build) -> None:
    listed = (await build("approval: never")).list_tools(EVERYTHING)
    assert {described.name for described in listed if described.needs_approval} == {"read_secret", "pay"}


async def test_an_agent_that_says_nothing_lets_ten_wait_a_day_each_and_everybody_answer(build: Build) -> None:
    agent = (await build("")).agents["a"]
    assert agent.admitted.session_waiting_max == 10
    assert agent.admitted.input_timeout.ToSeconds() == 86_400
    assert not agent.admitted.submitter_may_not_answer
    assert agent.runtime.asks_outcome
    assert agent.runtime.waits_for_limits


async def test_what_it_says_stands_in_what_its_tasks_begin_with(build: Build) -> None:
    fields = (
        "session: reject, submitter_may_answer: false, input_timeout_s: 90.5, outcome_unknown: tell, on_limit: fail"
    )
    agent = (await build(fields)).agents["a"]
    assert agent.admitted.session_waiting_max == 0
    assert agent.admitted.input_timeout.ToMilliseconds() == 90_500
    assert agent.admitted.submitter_may_not_answer
    assert not agent.runtime.asks_outcome
    assert not agent.runtime.waits_for_limits


async def test_a_tool_that_is_invoked_directly_asks_nobody(build: Build) -> None:
    catalog = await build("approval: always")
    runtime = catalog.runtime_of(TaskSubmitted(kind=TASK_KIND_TOOL, agent="send"))
    assert runtime is not None
    for each in (runtime, catalog.tool_runtime(send, 1.0)):
        assert not each.asks_outcome
        assert not each.needs_approval

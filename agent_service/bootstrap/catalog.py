"""Builds the agents and tools of a configuration."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from agent_service.agents.base import Agent
from agent_service.agents.tool_agent import ToolAgent
from agent_service.bootstrap.models import ModelBuilder
from agent_service.bootstrap.parts import price_of
from agent_service.bootstrap.surroundings import check_http_client
from agent_service.config.checks import unknown_tools
from agent_service.config.loader import Config
from agent_service.config.problems import Problem, config_error
from agent_service.config.schema import Agent as AgentConfig
from agent_service.config.sources.document import Document
from agent_service.config.values import nanos
from agent_service.engine.runtime import AgentRuntime, ModelRuntime
from agent_service.errors import ConfigError
from agent_service.llm.base import ToolSpec
from agent_service.llm.price import Price
from agent_service.schemas.output_schema import OutputSchema
from agent_service.service.catalog import SESSION_WAITING_MAX, Catalog, ConfiguredAgent
from agent_service.tools.base import Tool
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.decorator import AnyFunctionTool
from agent_service.tools.loading import entry_point_tools, module_tools
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner
from agent_service.tools.toolset import Toolset, Toolsets
from agent_service.v1.task_event_pb2 import TaskLimits


class CatalogBuilder:
    """Builds the catalogs of successive configurations. `models` and `toolsets` keep the parts that these share; tool
    functions run in `runner`.
    """

    def __init__(self, models: ModelBuilder, toolsets: Toolsets, runner: ToolRunner) -> None:
        self.models = models
        self._toolsets = toolsets
        self._runner = runner

    async def build(self, config: Config) -> Catalog:
        """Return the catalog of a configuration, with the tools that its toolsets list now.

        Raises:
            ConfigError: tools, agent classes or scripts cannot be loaded, or no HTTP client can be built.
        """
        check_http_client(config)
        sources, problems = tool_sources(config.document, config.path, self._runner)
        opened = [source._replace(toolset=await self._toolsets.open(source.toolset)) for source in sources]
        registry, agents = _registry(config.document, opened, problems), agent_classes(config)
        models = await self.models.build(config)
        prices = {key: price_of(model.price) for key, model in config.models.items() if model.price is not None}
        configured = [
            _configured_agent(key, agent, registry, models, agents, prices) for key, agent in config.agents.items()
        ]
        return Catalog(configured, registry, default_agent=config.default_agent)


class ToolSource(NamedTuple):
    """A toolset of a configuration, and a function that locates its problems in the configuration."""

    toolset: Toolset
    problem: Callable[[str], Problem]


def tool_registry(config: Config) -> ToolRegistry:
    """Return the tools that need no open toolset: built-in ones, those of modules and of installed packages.

    Raises:
        ConfigError: tools cannot be loaded, or an agent names an unknown tool; all problems at once.
    """
    return _registry(config.document, *tool_sources(config.document, config.path, ToolRunner()))


def tool_problems(document: Document, path: Path | None) -> list[Problem]:
    """Return the problems with the tools that a file names, even if other parts of it are invalid."""
    return _find_tools(document, *tool_sources(document, path, ToolRunner()))[1]


def tool_sources(document: Document, path: Path | None, runner: ToolRunner) -> tuple[list[ToolSource], list[Problem]]:
    """Return the toolsets of a configuration, not opened, and the problems with those that cannot be loaded."""
    folder = import_beside(path)
    found: list[tuple[Callable[[], Iterable[AnyFunctionTool]], Callable[[str], Problem]]] = [
        (lambda: BUILTIN_TOOLS, _installed_problem),
        *(
            (partial(module_tools, module), partial(_module_problem, document, index, folder))
            for index, module in _modules(document)
        ),
        (entry_point_tools, _installed_problem),
    ]
    sources: list[ToolSource] = []
    problems: list[Problem] = []
    for load, problem in found:
        try:
            sources.append(ToolSource(PythonToolset(load(), runner), problem))
        except ConfigError as error:
            problems += map(problem, error.problems)
    return sources, problems


def _registry(document: Document, sources: Iterable[ToolSource], problems: Iterable[Problem]) -> ToolRegistry:
    registry, all_problems = _find_tools(document, sources, problems)
    if all_problems:
        raise config_error(all_problems)
    return registry


def _find_tools(
    document: Document, sources: Iterable[ToolSource], problems: Iterable[Problem]
) -> tuple[ToolRegistry, list[Problem]]:
    """Return the tools by name, and `problems` extended by duplicate and unknown names."""
    registry, found = ToolRegistry(), list(problems)
    for toolset, problem in sources:
        try:
            registry.add(toolset)
        except ConfigError as error:
            found += map(problem, error.problems)
    return registry, found + unknown_tools(document, registry.names())


def _installed_problem(text: str) -> Problem:
    return Problem("installed packages", 0, "", text)


def _module_problem(document: Document, index: int, folder: str, text: str) -> Problem:
    return document.problem(("tools", "modules", index), _with_places(text, folder))


def _modules(document: Document) -> list[tuple[int, str]]:
    """Return the modules that a file names, with their indexes; entries of a wrong type are skipped."""
    section = document.tree.get("tools")
    modules = section.get("modules") if isinstance(section, dict) else None
    return [
        (index, module)
        for index, module in enumerate(modules if isinstance(modules, list) else ())
        if isinstance(module, str) and module
    ]


def import_beside(path: Path | None) -> str:
    """Make the modules beside the configuration file importable, after all installed ones. Return their folder."""
    if path is None:
        return ""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last: a module there must not shadow an installed one
    return folder


def _with_places(problem: str, folder: str) -> str:
    if "ModuleNotFoundError" not in problem:
        return problem
    beside = f" and in {folder}, beside the configuration" if folder else ""
    return f"{problem}; modules are looked for among the installed packages{beside}"


def agent_classes(config: Config) -> Mapping[str, Agent]:
    """Return the agent object of each configured agent.

    Raises:
        ConfigError: classes cannot be imported or instantiated, or are not agents; all problems at once.
    """
    agents: dict[str, Agent] = {}
    problems: list[str] = []
    import_beside(config.path)
    for key, agent in config.agents.items():
        try:
            agents[key] = _agent_of_class(agent.class_path)
        except Exception as error:  # noqa: BLE001 - importing and instantiating runs the author's code
            found = f"{agent.class_path!r} is no agent class: {type(error).__name__}: {error}"
            problems.append(str(config.problem(("agents", key, "class"), found)))
    if problems:
        raise ConfigError(problems)
    return agents


def _agent_of_class(path: str | None) -> Agent:
    if path is None:
        return ToolAgent()
    module, _, name = path.partition(":")
    agent: Agent = getattr(importlib.import_module(module), name)()
    if not callable(getattr(agent, "step", None)):
        raise TypeError("it has no step(state) method")
    return agent


def _configured_agent(
    key: str,
    agent: AgentConfig,
    registry: ToolRegistry,
    models: Mapping[str, ModelRuntime],
    agents: Mapping[str, Agent],
    prices: Mapping[str, Price],
) -> ConfiguredAgent:
    tools = {name: registry.get(name) for name in agent.tools}
    runtime = AgentRuntime(
        name=key,
        agent=agents[key],
        model=models[agent.model],
        tools=tools,
        tool_specs=tuple(map(_tool_spec, tools.values())),
        needs_approval=frozenset(
            name for name, tool in tools.items() if tool.needs_approval(agent.approval_rule(name))
        ),
        asks_outcome=agent.outcome_unknown == "ask",
        prices=prices,
        waits_for_limits=agent.on_limit == "wait",
        toolsets=registry.toolsets,
    )
    return ConfiguredAgent.of(
        runtime,
        instructions=agent.instructions,
        limits=TaskLimits(
            turns=agent.limits.turns,
            tool_calls=agent.limits.tool_calls,
            parallel_tools=agent.limits.parallel_tools,
            tokens=agent.limits.tokens or 0,
            cost_nanos=0 if agent.limits.cost is None else nanos(agent.limits.cost),
        ),
        description=agent.description,
        timeout_s=agent.timeout_s,
        timeout_max_s=agent.timeout_max_s,
        session_waiting_max=SESSION_WAITING_MAX if agent.session == "enqueue" else 0,
        submitter_may_answer=agent.submitter_may_answer,
        input_timeout_s=agent.input_timeout_s,
        output_schema_json=OutputSchema.of(agent.output_schema).text if agent.output_schema else "",
    )


def _tool_spec(tool: Tool) -> ToolSpec:
    return ToolSpec(tool.name, tool.description, tool.input_schema_json)

"""From a configuration to the agents and tools that it names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

from agent_service.agents.base import Agent
from agent_service.agents.tool_agent import ToolAgent
from agent_service.bootstrap.models import ModelBuilder
from agent_service.bootstrap.parts import price_of
from agent_service.bootstrap.surroundings import check_http_client
from agent_service.config.checks import unknown_tools
from agent_service.config.document import Document
from agent_service.config.loader import Config
from agent_service.config.problems import Problem, config_error
from agent_service.config.schema import Agent as AgentConfig
from agent_service.config.values import nanos
from agent_service.engine.runtime import AgentRuntime, ModelRuntime
from agent_service.errors import ConfigError
from agent_service.llm.base import ToolSpec
from agent_service.llm.price import Price
from agent_service.schemas.output_schema import OutputSchema
from agent_service.service.catalog import SESSION_WAITING_MAX, Catalog, ConfiguredAgent
from agent_service.tools.base import Tool
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.registry import ToolRegistry
from agent_service.v1.task_event_pb2 import TaskLimits


class CatalogBuilder:
    """Builds catalogs of one configuration after the other. `models` builds, and keeps, what they share."""

    def __init__(self, models: ModelBuilder) -> None:
        self.models = models

    async def build(self, config: Config) -> Catalog:
        """The catalog of a configuration.

        Raises:
            ConfigError: it names tools, agent classes or scripts that cannot be had, or providers could not be asked.
        """
        check_http_client(config)
        registry, agents = tool_registry(config), agent_classes(config)
        models = await self.models.build(config)
        prices = {key: price_of(model.price) for key, model in config.models.items() if model.price is not None}
        configured = [
            _configured_agent(key, agent, registry, models, agents, prices) for key, agent in config.agents.items()
        ]
        return Catalog(configured, registry, default_agent=config.default_agent)


def tool_registry(config: Config) -> ToolRegistry:
    """The built-in tools, those of the configured modules and of installed packages.

    Raises:
        ConfigError: some cannot be had, or an agent names one that is not there; all problems at once.
    """
    registry, problems = _find_tools(config.document, config.path)
    if problems:
        raise config_error(problems)
    return registry


def tool_problems(document: Document, path: Path | None) -> list[Problem]:
    """Return what is wrong with the tools that a file names, whatever else is wrong with it."""
    return _find_tools(document, path)[1]


def _find_tools(document: Document, path: Path | None) -> tuple[ToolRegistry, list[Problem]]:
    registry = ToolRegistry(BUILTIN_TOOLS)
    problems: list[Problem] = []
    folder = import_beside(path)
    for index, module in _modules(document):
        try:
            registry.register_module(module)
        except ConfigError as error:
            where = ("tools", "modules", index)
            problems += [document.problem(where, _with_places(problem, folder)) for problem in error.problems]
    try:
        registry.register_entry_points()
    except ConfigError as error:
        problems += [Problem("installed packages", 0, "", problem) for problem in error.problems]
    return registry, problems + unknown_tools(document, registry.names())


def _modules(document: Document) -> list[tuple[int, str]]:
    """The modules that a file names, where it names them as it should."""
    section = document.tree.get("tools")
    modules = section.get("modules") if isinstance(section, dict) else None
    return [
        (index, module)
        for index, module in enumerate(modules if isinstance(modules, list) else ())
        if isinstance(module, str) and module
    ]


def import_beside(path: Path | None) -> str:
    """Let modules be imported that lie beside the configuration file, behind all that is installed; where that is."""
    if path is None:
        return ""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # behind: a module of somebody's own must not stand in for one of the library's
    return folder


def _with_places(problem: str, folder: str) -> str:
    if "ModuleNotFoundError" not in problem:
        return problem
    beside = f" and in {folder}, beside the configuration" if folder else ""
    return f"{problem}; modules are looked for among the installed packages{beside}"


def agent_classes(config: Config) -> Mapping[str, Agent]:
    """The way of working of each configured agent.

    Raises:
        ConfigError: classes that cannot be imported or made, or are no agents; all at once.
    """
    agents: dict[str, Agent] = {}
    problems: list[str] = []
    import_beside(config.path)
    for key, agent in config.agents.items():
        try:
            agents[key] = _agent_of_class(agent.class_path)
        except Exception as error:  # noqa: BLE001 - importing and making it runs the author's code
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

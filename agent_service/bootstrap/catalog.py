"""From a configuration to the agents, models and tools that it names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from agent_service.agents.base import Agent
from agent_service.agents.tool_agent import ToolAgent
from agent_service.config.loader import Config, tool_problems
from agent_service.config.schema import Agent as AgentConfig
from agent_service.config.schema import Model as ModelConfig
from agent_service.engine.runtime import AgentRuntime, ModelRuntime
from agent_service.errors import ConfigError
from agent_service.llm.base import Model, ToolSpec
from agent_service.llm.openai import OPENAI_BASE_URL, OpenAIModel
from agent_service.llm.provider_check import Ask
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.llm.script import Script
from agent_service.llm.scripted import ScriptedModel, default_script
from agent_service.service.catalog import SESSION_WAITING_MAX, Catalog, ConfiguredAgent
from agent_service.tools.base import Tool
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.registry import ToolRegistry
from agent_service.v1.task_event_pb2 import TaskLimits


class CatalogBuilder:
    """Builds catalogs of one configuration after the other.

    A model whose configuration has not changed stays the one that it was, with its connections and retry budget. One
    that has gone stays open for the tasks that still use it, until the service ends: `stack` owns them all.
    """

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._models: dict[tuple[str, str, str], tuple[ModelRuntime, Ask | None]] = {}
        self.asks: Mapping[str, Ask] = {}

    async def build(self, config: Config) -> Catalog:
        """The catalog of a configuration; `asks` has its providers then.

        Raises:
            ConfigError: it names tools, agent classes or scripts that cannot be had.
        """
        registry, agents = tool_registry(config), agent_classes(config)
        models: dict[str, ModelRuntime] = {}
        asks: dict[str, Ask] = {}
        for key, model in config.models.items():
            models[key], ask = await self._model(config, key, model)
            if ask is not None:
                asks[key] = ask
        self.asks = asks
        configured = [_configured_agent(key, agent, registry, models, agents) for key, agent in config.agents.items()]
        return Catalog(configured, registry, default_agent=config.default_agent)

    async def _model(self, config: Config, key: str, model: ModelConfig) -> tuple[ModelRuntime, Ask | None]:
        secret = config.api_key(key)
        api_key = secret.get_secret_value() if secret else ""
        identity = (key, model.model_dump_json(), api_key)
        if identity not in self._models or model.script:
            self._models[identity] = await self._new_model(key, model, api_key)
        return self._models[identity]

    async def _new_model(self, key: str, model: ModelConfig, api_key: str) -> tuple[ModelRuntime, Ask | None]:
        adapter: Model
        ask: Ask | None = None
        if model.provider == "scripted":
            adapter = ScriptedModel(script(model.script))
        else:
            adapter = openai = await self._stack.enter_async_context(_openai_model(model, api_key))
            ask = openai.check
        retrying = Retrying(
            adapter,
            key,
            RetryBudget(),
            attempts=model.retry.attempts,
            base_delay_s=model.retry.base_delay_s,
            max_delay_s=model.retry.max_delay_s,
        )
        return ModelRuntime(key, retrying, model.max_tokens, model.context_tokens), ask


def tool_registry(config: Config) -> ToolRegistry:
    """The built-in tools, those of the configured modules and of installed packages.

    Raises:
        ConfigError: some cannot be had, or an agent names one that is not there; all problems at once.
    """
    registry = ToolRegistry(BUILTIN_TOOLS)
    problems: list[str] = []
    for index, module in enumerate(config.tool_modules):
        try:
            registry.register_module(module)
        except ConfigError as error:
            problems += [str(config.problem(("tools", "modules", index), problem)) for problem in error.problems]
    try:
        registry.register_entry_points()
    except ConfigError as error:
        problems += error.problems
    problems += [str(problem) for problem in tool_problems(config, registry.names())]
    if problems:
        raise ConfigError(problems)
    return registry


def agent_classes(config: Config) -> Mapping[str, Agent]:
    """The way of working of each configured agent.

    Raises:
        ConfigError: classes that cannot be imported or made, or are no agents; all at once.
    """
    agents: dict[str, Agent] = {}
    problems: list[str] = []
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


def _openai_model(model: ModelConfig, api_key: str) -> OpenAIModel:
    return OpenAIModel(
        model_id=model.model_id,
        api_key=api_key,
        base_url=model.base_url or OPENAI_BASE_URL,
        temperature=model.temperature,
        max_tokens=model.max_tokens,
        total_s=model.timeout.total_s,
        first_token_s=model.timeout.first_token_s,
        idle_s=model.timeout.idle_s,
    )


def script(path: str | None) -> Script:
    """The script of a scripted model: a file's, or the default one.

    Raises:
        ConfigError: it is not valid.
    """
    if path is None:
        return default_script()
    return Script.parse(Path(path).read_text("utf-8"), path)


def _configured_agent(
    key: str,
    agent: AgentConfig,
    registry: ToolRegistry,
    models: Mapping[str, ModelRuntime],
    agents: Mapping[str, Agent],
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
        waits_for_limits=agent.on_limit == "wait",
    )
    return ConfiguredAgent.of(
        runtime,
        instructions=agent.instructions,
        limits=TaskLimits(
            turns=agent.limits.turns,
            tool_calls=agent.limits.tool_calls,
            parallel_tools=agent.limits.parallel_tools,
        ),
        description=agent.description,
        timeout_s=agent.timeout_s,
        timeout_max_s=agent.timeout_max_s,
        session_waiting_max=SESSION_WAITING_MAX if agent.session == "enqueue" else 0,
        submitter_may_answer=agent.submitter_may_answer,
        input_timeout_s=agent.input_timeout_s,
    )


def _tool_spec(tool: Tool) -> ToolSpec:
    return ToolSpec(tool.name, tool.description, tool.input_schema_json)

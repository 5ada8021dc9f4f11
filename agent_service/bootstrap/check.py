"""Resolves everything that a configuration names, without starting anything."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from agent_service.bootstrap.catalog import agent_classes, tool_registry
from agent_service.bootstrap.models import script
from agent_service.bootstrap.parts import certificate_files
from agent_service.bootstrap.surroundings import check_http_client
from agent_service.config.loader import Config
from agent_service.errors import ConfigError
from agent_service.keys.file import load_keys
from agent_service.reloading import read_all


def check_parts(config: Config) -> None:
    """Import and read everything that the configuration names, without opening or starting anything.

    Raises:
        ConfigError: tools, agent classes, scripts or keys cannot be loaded; all problems at once.
    """
    problems: list[str] = []
    parts: list[Callable[[], object]] = [lambda: tool_registry(config), lambda: agent_classes(config)]
    parts += [partial(script, model.script) for model in config.models.values() if model.script]
    if config.settings.api_keys_file is not None:
        parts.append(partial(load_keys, config.settings.api_keys_file))
    if (files := certificate_files(config.settings)) is not None:
        parts.append(lambda: files.parse(read_all(files.paths)))
    parts.append(lambda: check_http_client(config))
    for part in parts:
        try:
            part()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)

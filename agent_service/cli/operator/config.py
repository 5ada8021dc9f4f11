"""`agent-service config check|show|schema|reference`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from agent_service.config import describe
from agent_service.config import reference as manual
from agent_service.config.loader import Config, ToolProblems, load
from agent_service.errors import ConfigError


@click.group()
def config() -> None:
    """Check and show the configuration, without starting a server."""


def config_file_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --file."""
    return click.option(
        "--file",
        "path",
        type=click.Path(path_type=Path),
        help="The configuration file.  [env: AGENT_SERVICE_CONFIG_PATH; default: ./config.yaml]",
    )(command)


@config.command()
@config_file_option
def check(path: Path | None) -> None:
    """Report all problems of the environment and the file. Exits 2 if there are any."""
    from agent_service.bootstrap.catalog import tool_problems, tool_registry
    from agent_service.bootstrap.check import check_parts
    from agent_service.bootstrap.doctor.token_limits import unreachable_limits
    from agent_service.bootstrap.surroundings import long_descriptions

    loaded = _load(path, tool_problems)
    try:
        check_parts(loaded)
    except ConfigError as error:
        _refuse(error)
    agents, models = ", ".join(loaded.agents), ", ".join(loaded.models)
    click.echo(f"{loaded.path or 'the embedded configuration'} is valid: agents {agents}; models {models}")
    for text, advice in unreachable_limits(loaded):
        click.echo(f"warning: {text}; {advice}", err=True)
    for notice in (*map(str, loaded.notices), *long_descriptions(loaded, tool_registry(loaded))):
        click.echo(f"note: {notice}", err=True)
    for key in sorted(loaded.stand_ins):
        click.echo(f"note: model {key} has no API key and is scripted", err=True)


@config.command()
@config_file_option
def show(path: Path | None) -> None:
    """Print the effective configuration as YAML.

    Includes every default, and masks secrets.
    """
    click.echo(describe.show(_load(path)), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    click.echo(json.dumps(describe.json_schema(), indent=2))


@config.command()
def reference() -> None:
    """Print all environment variables and all settings of the file as Markdown."""
    click.echo(manual.reference(), nl=False)


def _load(path: Path | None, tool_problems: ToolProblems | None = None) -> Config:
    environ = dict(os.environ)
    if path is not None:
        environ["AGENT_SERVICE_CONFIG_PATH"] = str(path)
    try:
        return load(environ, tool_problems=tool_problems)
    except ConfigError as error:
        _refuse(error)


def _refuse(error: ConfigError) -> NoReturn:
    for problem in error.problems:
        click.echo(problem, err=True)
    sys.exit(2)

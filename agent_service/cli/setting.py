"""Reads a setting as the server does, for commands that take an option's default from it."""

from __future__ import annotations

import os

import click

from agent_service.config.sources.dotenv import DOTENV, read_dotenv
from agent_service.config.sources.environment import PLACEHOLDERS


def setting(name: str) -> str:
    """Return the value in the environment, else in `.env`, which is read once per command.

    Returns "" if neither sets it, or if the value is the placeholder of an example.

    Raises:
        click.UsageError: `.env` exists and cannot be read.
    """
    value = os.environ.get(name, "").strip()
    if value:
        return _unless_placeholder(value)
    kept = click.get_current_context().find_root().meta
    if __name__ not in kept:
        values, _, problems = read_dotenv(DOTENV)
        # The server reports lines that are not NAME=value; here they are ignored: the file may belong to another
        # program.
        if unreadable := [problem for problem in problems if not problem.line]:
            raise click.UsageError("\n".join(map(str, unreadable)))
        kept[__name__] = values
    return _unless_placeholder(kept[__name__].get(name, ""))


def _unless_placeholder(value: str) -> str:
    return "" if value in PLACEHOLDERS else value

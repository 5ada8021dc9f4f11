"""A setting as the server would read it, for commands that take an option's default from it."""

from __future__ import annotations

import os

import click

from agent_service.config.sources.dotenv import DOTENV, read_dotenv
from agent_service.config.sources.environment import PLACEHOLDERS


def setting(name: str) -> str:
    """The value in the environment, else in `.env`, which is read once a command; "" where neither sets it, or to the
    placeholder of an example alone.

    Raises:
        click.UsageError: `.env` is there and cannot be read.
    """
    value = os.environ.get(name, "").strip()
    if value:
        return _unless_placeholder(value)
    kept = click.get_current_context().find_root().meta
    if __name__ not in kept:
        values, _, problems = read_dotenv(DOTENV)
        # A line that is no NAME=value is for the server to tell of: the file may be that of another program.
        if unreadable := [problem for problem in problems if not problem.line]:
            raise click.UsageError("\n".join(map(str, unreadable)))
        kept[__name__] = values
    return _unless_placeholder(kept[__name__].get(name, ""))


def _unless_placeholder(value: str) -> str:
    return "" if value in PLACEHOLDERS else value

"""What is wrong with a configuration, said so that its reader finds the place.

A problem tells what is allowed, and never repeats a value: whatever stands in a wrong place may be a secret. The
exceptions are names that refer to something (`'fast' is not a model`). Knows neither the settings nor the schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agent_service.errors import ConfigError
from agent_service.text import paths, violations
from agent_service.text.paths import quoted_if_odd
from agent_service.text.yaml_document import Location

ENVIRONMENT = "environment"  # the source that is no file
PROBLEMS_MAX = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `str()` is `config.yaml:7 agents.assistant.model: 'fast' is not a model; models: smart`.

    `source` is a file as its reader named it, or ENVIRONMENT. `line` counts from 1; 0: the problem has no line.
    `path` is where in the source, dotted, or a variable's name; empty: the source itself.
    """

    source: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        source = f"{self.source}:{self.line}" if self.line else self.source
        return f"{source} {self.path}: {self.text}" if self.path else f"{source}: {self.text}"


def config_error(problems: Iterable[Problem]) -> ConfigError:
    """All of them as one error, each once: the environment's, then each file's by line. Above PROBLEMS_MAX the rest is
    only counted.
    """
    distinct = list(dict.fromkeys(problems))
    sources = list(dict.fromkeys((ENVIRONMENT, *(problem.source for problem in distinct))))
    distinct.sort(key=lambda problem: (sources.index(problem.source), problem.line))
    told = [str(problem) for problem in distinct]
    if len(told) > PROBLEMS_MAX:
        told[PROBLEMS_MAX:] = [f"and {len(told) - PROBLEMS_MAX} more problems"]
    return ConfigError(told)


def dotted(path: Location) -> str:
    """`agents.assistant.tools[1]` for ("agents", "assistant", "tools", 1); odd names are in quotes."""
    return paths.dotted(path, lambda name: f".{quoted_if_odd(name)}")


def in_words(error: Any) -> str:
    """Return what one of pydantic's error details says, without the value that it is about."""
    return violations.in_words(error, _WORDS)


_WORDS = {"string_type": "must be text (put it in quotes where YAML reads a number, a date or a yes)"}

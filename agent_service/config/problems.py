"""Problems of a configuration, each with its place.

The text of a problem says what is allowed and never repeats a value, because a misplaced value may be a secret. Names
that refer to something are an exception (`'fast' is not a model`). Depends on neither the settings nor the schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agent_service.errors import ConfigError
from agent_service.text import paths, violations
from agent_service.text.paths import quoted_if_odd
from agent_service.text.yaml_document import Location

ENVIRONMENT = "environment"  # the source of problems that are in no file
PROBLEMS_MAX = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `str()` is `config.yaml:7 agents.assistant.model: 'fast' is not a model; models: smart`.

    `source` is the file's name as given to the reader, or ENVIRONMENT. `line` counts from 1; 0: the problem has no
    line. `path` is the dotted path in the source, or a variable's name; empty: the source itself.
    """

    source: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        source = f"{self.source}:{self.line}" if self.line else self.source
        return f"{source} {self.path}: {self.text}" if self.path else f"{source}: {self.text}"


def config_error(problems: Iterable[Problem]) -> ConfigError:
    """Return the distinct problems as one error: those of the environment, then those of each file by line. The
    problems above PROBLEMS_MAX are only counted.
    """
    distinct = list(dict.fromkeys(problems))
    sources = list(dict.fromkeys((ENVIRONMENT, *(problem.source for problem in distinct))))
    distinct.sort(key=lambda problem: (sources.index(problem.source), problem.line))
    texts = [str(problem) for problem in distinct]
    if len(texts) > PROBLEMS_MAX:
        texts[PROBLEMS_MAX:] = [f"and {len(texts) - PROBLEMS_MAX} more problems"]
    return ConfigError(texts)


def dotted(path: Location) -> str:
    """Return `agents.assistant.tools[1]` for ("agents", "assistant", "tools", 1); odd names are in quotes."""
    return paths.dotted(path, lambda name: f".{quoted_if_odd(name)}")


def in_words(error: Any) -> str:
    """Return the text of one of pydantic's error details, without the invalid value."""
    return violations.in_words(error, _WORDS)


_WORDS = {"string_type": "must be text (quote what YAML reads as a number, date or boolean)"}

"""What is wrong with a configuration, said so that its reader finds the place.

A problem tells what is allowed, and never repeats a value: whatever stands in a wrong place may be a secret. The
exceptions are names that refer to something (`'fast' is not a model`). Knows neither the settings nor the schema.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agent_service.errors import ConfigError

Location = tuple[str | int, ...]  # of a value in a file: ("rate_limits", 0, "per")

ENVIRONMENT = "environment"  # the source that is no file
PROBLEMS_MAX = 100
ECHO_MAX = 64


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
    """`agents.assistant.tools[1]` for ("agents", "assistant", "tools", 1)."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if part.isprintable() and len(part) <= ECHO_MAX else quoted(part))
    return text


def quoted(text: str) -> str:
    """The text in quotes, on one line, and cut where it is long."""
    return repr(text if len(text) <= ECHO_MAX else text[:ECHO_MAX] + "…")


def not_among(name: str, kind: str, known: Iterable[str]) -> str:
    """`'fast' is not a model; models: local, smart`; of many, only the nearest are listed."""
    names = sorted(known)
    if len(names) > 20:
        names = difflib.get_close_matches(name, names, n=5) or [*names[:20], "…"]
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{quoted(name)} is not {article} {kind}; {kind}s: {', '.join(names) or 'none'}"


def near_miss(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean API_PORT?`, or nothing. `cutoff`: how much of both must agree, from 0 to 1."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


# What pydantic's error types mean in our words; `{}` fields come from the error's context.
_WORDS = {
    "missing": "is missing",
    "string_type": "must be text (put it in quotes where YAML reads a number, a date or a yes)",
    "string_unicode": "is not valid Unicode",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "value_error": "{error}",
}


def in_words(error: Any) -> str:
    """What one of pydantic's error details says, without the value that it is about."""
    words = _WORDS.get(error["type"])
    context = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value  # 60, not 60.0
        for name, value in error.get("ctx", {}).items()
    }
    return words.format_map(context) if words else str(error["msg"])

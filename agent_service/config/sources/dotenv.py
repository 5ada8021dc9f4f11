"""Reads a `.env` file as text values, with the line of each."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from agent_service.config.problems import Problem
from agent_service.config.sources.operator_files import read_piped_text
from agent_service.text.files import Unusable

DOTENV = Path(".env")


def read_dotenv(path: Path) -> tuple[Mapping[str, str], Mapping[str, int], list[Problem]]:
    """Return the values, their lines, and the problems of the file. A missing file has no values.

    Uses python-dotenv's parser below `dotenv_values`, which drops unreadable lines, loses line numbers, and expands
    `${…}` from `os.environ`. Here values are literal, so that a secret may contain any character.
    """
    if not os.path.lexists(path):
        return {}, {}, []
    try:
        text = read_piped_text(path)
    except Unusable as exc:
        return {}, {}, [Problem(str(path), 0, "", str(exc))]
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        # The parser counts blank lines before a binding to the binding.
        line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
        if binding.error:
            problems.append(Problem(str(path), line, "", "is not NAME=value"))
        elif binding.key is not None and (value := (binding.value or "").strip()):
            values[binding.key] = value
            lines[binding.key] = line
        elif binding.key is not None:  # the last one counts, even if it is empty
            values.pop(binding.key, None)
            lines.pop(binding.key, None)
    return values, lines, problems

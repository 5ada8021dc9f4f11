"""What the scenario expects against what is there (clients/scenario.md, "Matching"). Knows no client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_VARIABLE = re.compile(r"\$\{(\w+)\}")
NOTHING = (None, "", [], {})


class MismatchError(Exception):
    """Something is not as the scenario says."""


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with variables in place of their names."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _variable(found[1], variables), value)
    if isinstance(value, dict):
        return {key: filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, variables) for item in value]
    return value


def found(place: str, value: Any) -> str:
    """The scalar at a dotted place, as text.

    Raises:
        MismatchError: it is not there.
    """
    for name in place.split("."):
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            raise MismatchError(f"save.{place}: there is none")
    return text_of(value)


def match(expected: Any, actual: Any, place: str) -> None:
    """Compare.

    Raises:
        MismatchError: the first place where they differ.
    """
    if isinstance(expected, dict) and "between" in expected:
        low, high = (_number(bound) for bound in expected["between"])
        number = _number(actual)
        is_alike = None not in (low, high, number) and low < number <= high  # type: ignore[operator] # none is None
    elif isinstance(expected, dict):
        is_alike = isinstance(actual, dict)
        for key, item in expected.items() if is_alike else ():
            match(item, actual.get(key), f"{place}.{key}")
    elif isinstance(expected, list):
        there = actual or []
        is_alike = isinstance(there, list) and len(there) == len(expected)
        for index, item in enumerate(expected) if is_alike else ():
            match(item, there[index], f"{place}.{index}")
    else:
        is_alike = _is_alike(text_of(expected), actual)
    if not is_alike:
        raise MismatchError(f"{place}: expected {_told(expected)}, got {_told(actual)}")


def text_of(value: Any) -> str:
    """A scalar as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_alike(expected: str, actual: Any) -> bool:
    if expected == "*":
        return actual not in NOTHING
    if expected == "":
        return actual in NOTHING
    if actual is None or isinstance(actual, dict | list):
        return False
    if expected.startswith("~"):
        return expected[1:] in text_of(actual)
    number = _number(expected)
    return expected == text_of(actual) or (number is not None and number == _number(actual))


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _variable(name: str, variables: Mapping[str, str]) -> str:
    if name not in variables:
        raise MismatchError(f"${{{name}}} was never saved")
    return variables[name]


def _told(value: Any) -> str:
    return text_of(value) if value is not None else "nothing"

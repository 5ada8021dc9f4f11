"""Values of protobuf enums by their short names, without the prefix from the enum's name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Protocol

from google.protobuf.descriptor import EnumDescriptor

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Enum(Protocol):
    """A generated enum."""

    @property
    def DESCRIPTOR(self) -> EnumDescriptor: ...

    def Value(self, name: str) -> Any: ...


def short_name(enum: Enum, value: int) -> str:
    """Return `WORKING` for TASK_STATE_WORKING; an unknown number is returned as text."""
    name = _names(enum.DESCRIPTOR).get(value)
    return str(value) if name is None else name


def value_of(enum: Enum, name: str) -> Any:
    """Return the value with that short name, in upper or lower case, with `-` or `_`.

    Raises:
        ValueError: there is none.
    """
    return enum.Value(_prefix(enum.DESCRIPTOR) + name.upper().replace("-", "_"))


def short_names(enum: Enum) -> list[str]:
    """Return all names except the first, which means unspecified."""
    return list(_names(enum.DESCRIPTOR).values())[1:]


@lru_cache(maxsize=256)
def _names(enum: EnumDescriptor) -> dict[int, str]:
    prefix = _prefix(enum)
    return {value.number: value.name.removeprefix(prefix) for value in enum.values}


def _prefix(enum: EnumDescriptor) -> str:
    """Return TASK_STATE_ for TaskState."""
    return _WORD_START.sub("_", enum.name).upper() + "_"

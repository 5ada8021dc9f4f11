"""Stacks of all asyncio tasks, down to the awaited call: to diagnose a process that seems to do nothing.

They have files, lines and functions, never a value.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from types import CodeType
from typing import Any

DEPTH_MAX = 30

Stack = tuple[str, ...]


def stacks(tasks: Iterable[asyncio.Task[Any]]) -> Counter[Stack]:
    """Return the stacks, outermost frame first, with the number of tasks at each."""
    return Counter(stack_of(task) for task in tasks)


def stack_of(task: asyncio.Task[Any]) -> Stack:
    """Return `runner.py:70 drive`, …: the frames from the task's coroutine to the innermost one, DEPTH_MAX at most.

    asyncio's own `get_stack` returns only the outermost frame of a suspended task.
    """
    found: list[str] = []
    awaited: object = task.get_coro()
    while awaited is not None and len(found) < DEPTH_MAX:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        frame = frame or getattr(awaited, "ag_frame", None)
        if frame is not None:
            found.append(_place(frame.f_code, frame.f_lineno))
        awaited = _next(awaited)
    return tuple(found)


def _next(awaited: object) -> object:
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        if (inner := getattr(awaited, name, None)) is not None:
            return inner
    return None


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename.rpartition('/')[2]}:{line} {code.co_name}"

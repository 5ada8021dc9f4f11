"""An event loop whose time passes only while there is nothing to do, and then at once: a day in a minute."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    """Does not wait: it moves the loop's time by what it was asked to wait."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.now_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """For code without threads, sockets and other processes."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s


def run_virtually(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end in a loop of its own, and cancel what is left."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)

"""Something that happens once, and that any number of callers may wait for."""

from __future__ import annotations

import asyncio


class Latch:
    """Reached once, well or with an error; `is_reached` says whether it was.

    Every waiter has a future of its own, so that one that is cancelled takes nothing from the others; sharing one
    future behind `asyncio.shield` does the same at three times the price.
    """

    __slots__ = ("_error", "_waiters", "is_reached")

    def __init__(self) -> None:
        self.is_reached = False
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def reach(self, error: BaseException | None = None) -> None:
        """It has happened, or never will because of this error. Later calls change nothing."""
        if self.is_reached:
            return
        self.is_reached, self._error = True, error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Return once it has happened.

        Raises:
            What it was reached with.
        """
        if not self.is_reached:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

"""An event that happens once, and that any number of callers may wait for."""

from __future__ import annotations

import asyncio


class Latch:
    """Reached once, with or without an error; `is_reached` is True from then on.

    Every waiter has its own future, so that a cancelled waiter does not affect the others. One future shared through
    `asyncio.shield` does the same at three times the cost.
    """

    __slots__ = ("_error", "_waiters", "is_reached")

    def __init__(self) -> None:
        self.is_reached = False
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def reach(self, error: BaseException | None = None) -> None:
        """Wake all waiters; with `error`, each of them raises it. Later calls change nothing."""
        if self.is_reached:
            return
        self.is_reached, self._error = True, error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Return once the latch is reached.

        Raises:
            The error that it was reached with, if any.
        """
        if not self.is_reached:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

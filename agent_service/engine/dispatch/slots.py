"""The places for running tasks in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent_service.errors import OverloadedError
from agent_service.v1 import error_reason_pb2 as reasons


class Slots:
    """A semaphore that refuses instead of blocking. The queue waits for a free place with `when_free`."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        self._waiter: Callable[[], None] | None = None

    @property
    def is_full(self) -> bool:
        """True if all places are taken."""
        return self._taken >= self._places

    def take(self) -> None:
        """Take a place.

        Raises:
            OverloadedError: OVERLOADED, all are taken.
        """
        if self._taken >= self._places:
            message = f"the server runs {self._places} tasks, as many as it may"
            raise OverloadedError(reasons.ERROR_REASON_OVERLOADED, message)
        self._taken += 1

    def give_back(self) -> None:
        """Free a place, and call the waiter, if there is one."""
        self._taken -= 1
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            OverloadedError: OVERLOADED, all are taken.
        """
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def when_free(self, waiter: Callable[[], None]) -> None:
        """Call `waiter` once, when the next place is given back. There is one waiter: the queue of this process."""
        self._waiter = waiter

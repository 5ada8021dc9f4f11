"""Calls that survive a server's restart: the same request again, under the same request_id, until it is answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from agent_service.client.errors import CallError
from agent_service.v1.task_event_pb2 import TaskEvent

T = TypeVar("T")

_sleep = asyncio.sleep

# Events that are only live: they have no place in a journal.
TRANSIENT = frozenset({"text_delta", "reasoning_delta", "waiting", "heartbeat"})
WAIT_S = 0.1
WAIT_MAX_S = 1.0


class Patience:
    """How long to go back to a server: `seconds` from the first failure since its last sign of life; 0 not at all.

    `is_away` says whether a server that cannot be reached was there before. A task that gave a sign of life was
    accepted: the way back to it waits for room too, where new work would be refused. Whether to wait with new work is
    the caller's to decide, who is told `retry_after_s`. `deadline_s` bounds all tries together.
    """

    def __init__(
        self,
        seconds: float,
        is_away: Callable[[], bool],
        *,
        deadline_s: float | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._seconds = seconds
        self._is_away = is_away
        self._now = now or asyncio.get_running_loop().time
        self._deadline = None if deadline_s is None else self._now() + deadline_s
        self._wait_s = WAIT_S
        self._until: float | None = None
        self._is_accepted = False

    def renew(self) -> None:
        """The task gave a sign of life."""
        self._wait_s = WAIT_S
        self._until = None
        self._is_accepted = True

    def left_s(self) -> float | None:
        """The time until the deadline, if there is one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._now())

    async def wait(self, error: CallError) -> None:
        """Wait before the next try.

        Raises:
            CallError: the one given, where another try is no use or it would be too late.
        """
        now = self._now()
        if self._until is None:
            self._until = now + self._seconds
        wait_s = self._wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        if error.is_interruption:
            is_useful = bool(error.reason) or self._is_away()
        else:
            is_useful = self._is_accepted and error.retry_after_s is not None
            wait_s = max(wait_s, error.retry_after_s or 0.0)
        if not is_useful or now >= self._until or (not error.is_interruption and now + wait_s > self._until):
            raise error
        self._wait_s = min(2 * self._wait_s, WAIT_MAX_S)
        left_s = self.left_s()
        # The last try, made at the deadline, is what tells of it.
        await _sleep(wait_s if left_s is None else min(wait_s, left_s))


async def answered(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Return what a call that may be repeated returns.

    Raises:
        CallError: it was refused, or interrupted for too long.
    """
    while True:
        try:
            return await call()
        except CallError as error:
            if error.task_id:
                patience.renew()
            await patience.wait(error)


async def followed(
    open_stream: Callable[[int], AsyncGenerator[TaskEvent]], after: int, patience: Patience
) -> AsyncGenerator[TaskEvent]:
    """The events of a stream that may be opened again behind the last sequence seen; each journaled one once.

    Raises:
        CallError: it was refused, or interrupted for too long.
    """
    seen = after
    while True:
        events = open_stream(seen)
        try:
            async for event in events:
                patience.renew()
                if is_journaled(event):
                    if event.sequence <= seen:
                        continue
                    seen = event.sequence
                yield event
            return
        except CallError as error:
            await patience.wait(error)
        finally:
            await events.aclose()


def is_journaled(event: TaskEvent) -> bool:
    """Return whether the event is one of the numbered ones."""
    return event.WhichOneof("event") not in TRANSIENT


def settles(event: TaskEvent) -> bool:
    """Return whether the task has ended with it, or waits for input."""
    return event.WhichOneof("event") in ("completed", "failed", "canceled", "rejected", "input_required")

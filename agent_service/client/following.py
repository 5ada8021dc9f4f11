"""Calls that survive a server's restart: the same request again, under the same request_id, until it is answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from agent_service.client.errors import CallError
from agent_service.v1.task_event_pb2 import TaskEvent

T = TypeVar("T")

WAIT_S = 0.1
WAIT_MAX_S = 1.0


class Patience:
    """How long to try: `seconds` from the last sign of life on, 0 once. `is_away` says whether a server that cannot be
    reached was there before.
    """

    def __init__(self, seconds: float, is_away: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._is_away = is_away
        self._loop = asyncio.get_running_loop()
        self._wait_s = WAIT_S
        self._until = self._loop.time() + seconds

    def renew(self) -> None:
        """There was a sign of life."""
        self._wait_s = WAIT_S
        self._until = self._loop.time() + self._seconds

    async def wait(self, error: CallError) -> None:
        """Wait before the next try.

        Raises:
            CallError: the one given, where another try is no use or it has been too long.
        """
        is_useful = error.is_interruption and (error.reason or self._is_away())
        if not is_useful or self._loop.time() >= self._until:
            raise error
        wait_s = self._wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._wait_s = min(2 * self._wait_s, WAIT_MAX_S)
        await asyncio.sleep(wait_s)


async def answered(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """What a call that may be repeated returns.

    Raises:
        CallError: it was refused, or interrupted for too long.
    """
    while True:
        try:
            return await call()
        except CallError as error:
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
    """Whether the event is one of the numbered ones."""
    return not (event.HasField("text_delta") or event.HasField("heartbeat"))


def settles(event: TaskEvent) -> bool:
    """Whether the task has ended with it, or waits for input."""
    return event.WhichOneof("event") in ("completed", "failed", "canceled", "rejected", "input_required")

"""Calls that survive a server's restart: the request is repeated with the same request_id until it is answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from agent_service.client.errors import CallError
from agent_service.v1.task_event_pb2 import TaskEvent

T = TypeVar("T")

_sleep = asyncio.sleep

# Events that are only live, and not in the journal.
TRANSIENT = frozenset({"text_delta", "reasoning_delta", "waiting", "heartbeat"})
WAIT_S = 0.1
WAIT_MAX_S = 1.0


class Patience:
    """The time for retries: `seconds` from the first failure since the task's last sign of life; 0: no retries.

    `is_away` returns whether an unreachable server was reachable before. A task with a sign of life was accepted:
    resuming it waits also for an overloaded server. New work that is refused is not retried: the caller decides, by
    `retry_after_s`. `deadline_s` bounds all tries together.
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
        """Record a sign of life of the task."""
        self._wait_s = WAIT_S
        self._until = None
        self._is_accepted = True

    def left_s(self) -> float | None:
        """Return the time until the deadline, if there is one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._now())

    async def wait(self, error: CallError) -> None:
        """Wait before the next try.

        Raises:
            CallError: the given one, if another try cannot help or would be too late.
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
        # The last try is made at the deadline, and reports that it has passed.
        await _sleep(wait_s if left_s is None else min(wait_s, left_s))


async def answered(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Make a repeatable call and return its result.

    Raises:
        CallError: the call was refused, or interrupted for too long.
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
    """Yield the events of a stream, which is reopened after the last sequence seen; each journaled event once.

    Raises:
        CallError: the call was refused, or interrupted for too long.
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
    """Return whether the event is journaled, and so has a sequence number."""
    return event.WhichOneof("event") not in TRANSIENT


def settles(event: TaskEvent) -> bool:
    """Return whether the task ends with the event, or waits for input."""
    return event.WhichOneof("event") in ("completed", "failed", "canceled", "rejected", "input_required")

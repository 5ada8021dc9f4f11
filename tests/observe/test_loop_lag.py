"""How late the event loop is, as the metrics tell it."""

from __future__ import annotations

import asyncio
import time
from threading import Thread

from agent_service.observe.instruments import Distribution, Trace
from agent_service.observe.loop_lag import INTERVAL_S, LoopLag

BLOCKED_S = 0.3


class Seen(Distribution):
    """Says when something was observed."""

    def __init__(self) -> None:
        super().__init__((BLOCKED_S / 2,))
        self.something = asyncio.Event()

    def observe(self, value: float, trace: Trace | None = None) -> None:
        super().observe(value, trace)
        self.something.set()


async def test_a_loop_that_was_kept_busy_is_seen_to_have_been_late() -> None:
    lag = Seen()
    measuring = asyncio.create_task(LoopLag(lag).run())
    await asyncio.sleep(0)
    time.sleep(INTERVAL_S + BLOCKED_S)  # noqa: ASYNC251 - what a loop must not be made to do
    await lag.something.wait()
    measuring.cancel()
    assert lag.counts == [0, 1]
    assert lag.total >= BLOCKED_S


async def test_a_loop_that_stands_still_is_seen_to_from_another_thread() -> None:
    lag = LoopLag(Distribution((1.0,)))
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    late: list[float] = []

    def look() -> None:
        while lag.late_s() < BLOCKED_S:
            time.sleep(0.01)
        late.append(lag.late_s())

    looking = Thread(target=look)
    looking.start()
    looking.join(30)  # here, in the loop's thread
    measuring.cancel()
    assert late[0] >= BLOCKED_S

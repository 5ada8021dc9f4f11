"""The share of the process that a queue of expensive work leaves to others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from agent_service.service import keyed_lock
from agent_service.service.keyed_lock import KeyedLock
from tests.fakes.virtual_time import run_virtually


def test_a_waiting_holder_rests_in_proportion_to_the_time_of_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[float] = []

    async def work() -> None:
        loop, costly = asyncio.get_running_loop(), KeyedLock(rest=2.0)
        monkeypatch.setattr(keyed_lock, "time", SimpleNamespace(monotonic=loop.time))

        async def take() -> None:
            async with costly.hold("acme"):
                begun.append(loop.time())
                await asyncio.sleep(1.0)

        await asyncio.gather(*(take() for _ in range(3)))
        await take()  # no queue: at once

    run_virtually(work())
    assert begun == [0.0, 3.0, 6.0, 7.0]

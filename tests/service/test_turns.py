"""What a line of costly work leaves to others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from agent_service.service import turns
from agent_service.service.turns import Turns
from tests.fakes.virtual_time import run_virtually


def test_a_line_rests_between_two_turns_in_proportion_to_what_the_last_one_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[float] = []

    async def work() -> None:
        loop, costly = asyncio.get_running_loop(), Turns(rest=2.0)
        monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=loop.time))

        async def take() -> None:
            async with costly.turn("acme"):
                begun.append(loop.time())
                await asyncio.sleep(1.0)

        await asyncio.gather(*(take() for _ in range(3)))
        await take()  # nobody is in line: at once

    run_virtually(work())
    assert begun == [0.0, 3.0, 6.0, 7.0]

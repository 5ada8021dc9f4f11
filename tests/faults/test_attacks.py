"""While somebody attacks, others are served as if nothing were, and afterwards the server is as it was before.

`make test-abuse` does it all longer, and prints figures.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.faults.abused import Abused, abused
from tests.faults.attacks import ATTACKS, Attack
from tests.faults.vitals import forget_peak, settled

P99_MS_MAX = 250.0
# Where nobody attacks and the machine is so busy with other things that even then calls are slow.
TIMES_CALM_MAX = 4
# An attack is made again until so much time has passed.
ATTACK_S = float(os.environ.get("ATTACK_S", "2"))
# What an attack is repeated after, so that what is made once and kept is there before.
WARMED_UP = 0.2
CALM_S = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Abused]:
    async with abused(tmp_path_factory.mktemp("abused")) as world:
        yield world


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(max(60, 10 * ATTACK_S))
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_nobody_else_is_harmed_by_somebody_who(attack: Attack, world: Abused) -> None:
    server, innocent = world.server, world.innocent
    await innocent.begin()
    await attack(replace(world.victim, part=WARMED_UP))
    await innocent.end()
    before = await settled(server)

    await innocent.begin()
    await asyncio.sleep(CALM_S)
    calm = await innocent.end()
    forget_peak(server)
    await innocent.begin()
    ends = time.monotonic() + ATTACK_S
    while time.monotonic() < ends:
        await attack(world.victim)
    attacked = await innocent.end()
    after = await settled(server, before)
    print(f"\n{attack.__name__}\n  calm {calm}\n  attacked {attacked}\n  before {before}\n  after {after}")

    assert attacked.wrong == ()
    assert attacked.p99_ms < max(P99_MS_MAX, TIMES_CALM_MAX * calm.p99_ms)
    assert after.grown_since(before) == []

"""While somebody attacks, others are served as if nothing were, and afterwards the server is as it was before.

Half of each attack; `make test-abuse` makes six times as much, and tells the figures.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.faults.abused import Abused, abused
from tests.faults.attacks import ATTACKS, Attack
from tests.faults.attacks.victim import Victim
from tests.faults.canaries import leaks
from tests.faults.innocent import NOT_READY, Calls
from tests.faults.vitals import Vitals, forget_peak, settled

# How much of each attack there is to be.
TIMES = float(os.environ.get("ABUSE_TIMES", "0.5"))
# What is made once and kept is there after so much of an attack.
WARMED_UP = 0.2
P99_MS_MAX = 250.0
# Where the machine is so busy with other things that calls are slow also while nobody attacks.
TIMES_CALM_MAX = 10
CALM_S = 1.0
# What is over sooner is done again: few calls tell little.
ATTACK_S = 2.0
# What is given back is not always given back by the allocator: that much is not held, is told by its not growing again.
REPEATED = 2
# How often both are measured again where the machine may have been busy with something else.
WHILE_BUSY = 4
GROWTH_MIB_MAX = 400.0
# A server for each module of attacks.
EACH = [pytest.param(attack, marks=pytest.mark.together(attack.__module__), id=attack.__name__) for attack in ATTACKS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Abused]:
    async with abused(tmp_path_factory.mktemp("abused")) as world:
        yield world


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(300 + 120 * TIMES)
@pytest.mark.parametrize("attack", EACH)
async def test_nobody_else_is_harmed_by_somebody_who(
    attack: Attack, world: Abused, record_property: Callable[[str, object], None]
) -> None:
    server = world.server
    victim = replace(world.victim, part=TIMES, told=[])
    await attack(replace(victim, part=WARMED_UP))
    before = await settled(server)

    forget_peak(server)
    for _ in range(1 + WHILE_BUSY):
        # A machine is busy with something else for a moment; what an attack does it does each time.
        calm = await calls_in_calm(world)
        attacked = await calls_beside(attack, world, victim)
        is_slow = NOT_READY in attacked.wrong or attacked.p99_ms >= p99_ms_max(calm)
        if not is_slow or set(attacked.wrong) - {NOT_READY}:
            break
        await settled(server, before)
    after = await settled(server, before)
    for name, figures in {"calm": calm, "attacked": attacked, "before": before, "after": after}.items():
        record_property(name, str(figures))
        print(f"{attack.__name__:50} {name:8} {figures}")  # noqa: T201 - for whoever asks with `-s`

    assert attacked.wrong == ()
    assert attacked.p99_ms < p99_ms_max(calm)
    assert after.peak_mib < before.rss_mib + GROWTH_MIB_MAX
    assert await grown(attack, world, before, after) == []
    assert await leaks(world, victim) == []


def p99_ms_max(calm: Calls) -> float:
    return max(P99_MS_MAX, TIMES_CALM_MAX * calm.p99_ms)


async def calls_in_calm(world: Abused) -> Calls:
    """What becomes of the innocent's calls while nobody attacks."""
    await world.innocent.begin()
    await asyncio.sleep(CALM_S)
    return await world.innocent.end()


async def calls_beside(attack: Attack, world: Abused, victim: Victim) -> Calls:
    """What becomes of the innocent's calls while the attack lasts."""
    await world.innocent.begin()
    ends = asyncio.get_running_loop().time() + ATTACK_S
    while asyncio.get_running_loop().time() < ends:
        await attack(victim)
    return await world.innocent.end()


async def grown(attack: Attack, world: Abused, before: Vitals, after: Vitals) -> list[str]:
    """What the attack leaves more of each time that it is made."""
    for _ in range(REPEATED):
        if not after.grown_since(before):
            break
        before = after
        await attack(replace(world.victim, part=TIMES))
        after = await settled(world.server, before)
    return after.grown_since(before)

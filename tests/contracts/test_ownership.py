"""What every store knows of the processes that share it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_service.store.base import Database, Orphan
from tests.contracts.stores import ADAPTERS
from tests.store.events import AT, ending, event, started, submitted, waits

AT_US = AT.ToMicroseconds()


async def orphans(store: Database, worker: str = "me") -> list[str]:
    return [orphan.task_id for orphan in await store.orphans(worker)]


async def test_a_living_process_is_counted_by_the_others(store: Database) -> None:
    assert await store.beat("one") == 0
    assert await store.beat("two") == 1
    assert await store.beat("one") == 1
    await store.leave("two")
    assert await store.beat("one") == 0


async def test_what_nobody_drives_is_an_orphan_and_what_somebody_does_is_not(store: Database) -> None:
    await store.beat("one")
    await store.append([submitted("new", session="s")], attempt=0)
    await store.append([submitted("driven"), started("driven", worker="one")], attempt=0)
    await store.append([submitted("lost"), started("lost", worker="gone")], attempt=0)
    await store.append([submitted("mine"), started("mine", worker="me")], attempt=0)
    await store.append([submitted("over"), started("over"), *ending("over")], attempt=0)

    assert await store.orphans("me") == [Orphan("new", "acme", "s", 0), Orphan("lost", "acme", "", 1)]


async def test_orphans_come_oldest_first_and_no_more_than_asked_for(store: Database) -> None:
    for n in (3, 1, 2):
        await store.append([submitted(f"t{n}")], attempt=0)

    assert await orphans(store) == ["t3", "t1", "t2"]
    assert [orphan.task_id for orphan in await store.orphans("me", limit=2)] == ["t3", "t1"]


@pytest.mark.parametrize("arm", ["attempt_ended", "input_required"])
async def test_whoever_lets_go_of_a_task_owns_it_no_more(store: Database, arm: str) -> None:
    await store.beat("one")
    await store.append([submitted(), started(worker="one")], attempt=0)
    assert await orphans(store) == []

    await store.append([waits(until_s=1) if arm == "input_required" else event(arm, attempt=1)], attempt=1)

    assert await orphans(store) == ([] if arm == "input_required" else ["t"])


async def test_an_answered_task_is_nobodys_until_it_is_begun_again(store: Database) -> None:
    await store.beat("one")
    await store.append([submitted(), started(worker="one"), waits(until_s=1)], attempt=0)
    answered = event("input_received", attempt=1)
    answered.input_received.resumes = True

    await store.append([answered], attempt=None)

    assert await orphans(store) == ["t"]
    assert await store.overdue(AT_US + 10_000_000) == []
    await store.append([started(attempt=2, worker="one")], attempt=1)
    assert await orphans(store) == []


async def test_events_in_between_do_not_change_the_owner(store: Database) -> None:
    await store.beat("one")
    await store.append([submitted(), started(worker="one")], attempt=0)
    await store.append([event("model_replied", attempt=1), event("cancel_requested", attempt=1)], attempt=1)

    assert await orphans(store) == []


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_process_that_says_nothing_for_too_long_owns_nothing(adapter: str, tmp_path: Path) -> None:
    async with ADAPTERS[adapter](tmp_path, silence_max_s=0.0) as store:
        await store.beat("one")
        await store.append([submitted(), started(worker="one")], attempt=0)

        assert await orphans(store) == ["t"]
        assert await store.beat("two") == 0


async def test_a_process_that_left_owns_nothing(store: Database) -> None:
    await store.beat("one")
    await store.append([submitted(), started(worker="one")], attempt=0)

    await store.leave("one")

    assert await orphans(store) == ["t"]


async def test_what_has_callers_is_known_to_others_while_its_process_lives_and_says_so(store: Database) -> None:
    await store.beat("one", ["t1", "t2"])
    await store.beat("two", {"t3"})

    attended = [await store.is_attended("two", task_id) for task_id in ("t1", "t2", "t3", "t")]
    assert attended == [True, True, False, False]
    assert await store.is_attended("one", "t3")
    await store.beat("one", ["t2"])
    assert [await store.is_attended("two", task_id) for task_id in ("t1", "t2")] == [False, True]
    await store.leave("one")
    assert not await store.is_attended("two", "t2")


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_process_that_says_nothing_for_too_long_has_no_callers(adapter: str, tmp_path: Path) -> None:
    async with ADAPTERS[adapter](tmp_path, silence_max_s=0.0) as store:
        await store.beat("one", ["t"])
        assert not await store.is_attended("two", "t")


async def test_overdue_is_what_waits_for_its_turn_or_for_input_past_its_time(store: Database) -> None:
    await store.append([submitted("queued", deadline_s=10)], attempt=0)
    await store.append([submitted("begun", deadline_s=10), started("begun")], attempt=0)
    await store.append(
        [submitted("waiting", deadline_s=10), started("waiting"), waits("waiting", until_s=20)], attempt=0
    )
    await store.append([submitted("no deadline")], attempt=0)

    assert await store.overdue(AT_US + 9_000_000) == []
    assert await store.overdue(AT_US + 10_000_000) == ["queued"]
    assert await store.overdue(AT_US + 20_000_000) == ["queued", "waiting"]
    assert await store.overdue(AT_US + 20_000_000, limit=1) == ["queued"]
    await store.append([event("failed", "queued")], attempt=None)
    assert await store.overdue(AT_US + 20_000_000) == ["waiting"]

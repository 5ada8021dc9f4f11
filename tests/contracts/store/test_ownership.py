"""What every store knows of the processes that share it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agent_service.store.base import LAST_RESORT_US, Database, Orphan, Peers
from tests.contracts.stores import ADAPTERS
from tests.store.events import AT, ending, event, started, submitted, waits

AT_US = AT.ToMicroseconds()
SILENCE_S = 30.0


async def orphans(store: Database, worker: str = "me") -> list[str]:
    found = [orphan for begun in (True, False) for orphan in await store.orphans(worker, begun=begun)]
    return [orphan.task_id for orphan in found]


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


Opened = Callable[[Watch], AbstractAsyncContextManager[Database]]


@pytest.fixture(params=ADAPTERS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    return lambda watch: ADAPTERS[request.param](tmp_path, silence_max_s=SILENCE_S, clock=watch)


async def test_a_living_process_is_counted_by_the_others(store: Database) -> None:
    assert (await store.heartbeat("one")).living == 0
    assert (await store.heartbeat("two")).living == 1
    assert (await store.heartbeat("one")).living == 1
    await store.deregister("two")
    assert (await store.heartbeat("one")).living == 0


async def test_what_nobody_drives_is_an_orphan_and_what_somebody_does_is_not(store: Database) -> None:
    await store.heartbeat("one")
    await store.append([submitted("new", session="s")], attempt=0)
    await store.append([submitted("driven"), started("driven", worker="one")], attempt=0)
    await store.append([submitted("lost"), started("lost", worker="gone")], attempt=0)
    await store.append([submitted("mine"), started("mine", worker="me")], attempt=0)
    await store.append([submitted("over"), started("over"), *ending("over")], attempt=0)
    await store.append([submitted("waits"), started("waits"), waits("waits", until_s=1)], attempt=0)

    assert await store.orphans("me", begun=False) == [Orphan("new", "acme", "s", 0, 1)]
    assert await store.orphans("me", {"mine", "other"}, begun=True) == [Orphan("lost", "acme", "", 1, 3)]


async def test_what_is_ones_own_and_not_driven_is_an_orphan(store: Database) -> None:
    await store.heartbeat("me")
    for name in ("a", "b"):
        await store.append([submitted(name), started(name, worker="me")], attempt=0)

    assert [orphan.task_id for orphan in await store.orphans("me", {"a"}, begun=True)] == ["b"]
    assert await store.orphans("one", begun=True) == []


@pytest.mark.parametrize("begun", [False, True])
async def test_orphans_come_oldest_first_in_pages_that_a_cursor_leads_through(store: Database, begun: bool) -> None:
    for n in (3, 1, 2):
        await store.append([submitted(f"t{n}"), *([started(f"t{n}", worker="gone")] if begun else [])], attempt=0)

    first = await store.orphans("me", begun=begun, limit=2)
    assert [orphan.task_id for orphan in first] == ["t3", "t1"]
    rest = await store.orphans("me", begun=begun, after=first[-1].cursor, limit=2)
    assert [orphan.task_id for orphan in rest] == ["t2"]


async def test_tasks_that_are_driven_here_take_no_place_in_a_page_of_orphans(store: Database) -> None:
    for n in range(5):
        await store.append([submitted(f"t{n}"), started(f"t{n}", worker="me")], attempt=0)
    await store.append([submitted("lost"), started("lost", worker="gone")], attempt=0)

    found = await store.orphans("me", {f"t{n}" for n in range(5)}, begun=True, limit=2)
    assert [orphan.task_id for orphan in found] == ["lost"]


@pytest.mark.parametrize("arm", ["attempt_ended", "input_required"])
async def test_whoever_lets_go_of_a_task_owns_it_no_more(store: Database, arm: str) -> None:
    await store.heartbeat("one")
    await store.append([submitted(), started(worker="one")], attempt=0)
    assert await orphans(store) == []

    await store.append([waits(until_s=1) if arm == "input_required" else event(arm, attempt=1)], attempt=1)

    assert await orphans(store) == ([] if arm == "input_required" else ["t"])


async def test_an_answered_task_is_nobodys_until_it_is_begun_again(store: Database) -> None:
    await store.heartbeat("one")
    await store.append([submitted(), started(worker="one"), waits(until_s=1)], attempt=0)
    answered = event("input_received", attempt=1)
    answered.input_received.resumes = True

    await store.append([answered], attempt=None)

    assert await orphans(store) == ["t"]
    assert await store.overdue(AT_US + 10_000_000) == []
    await store.append([started(attempt=2, worker="one")], attempt=1)
    assert await orphans(store) == []


async def test_events_in_between_do_not_change_the_owner(store: Database) -> None:
    await store.heartbeat("one")
    await store.append([submitted(), started(worker="one")], attempt=0)
    await store.append([event("model_replied", attempt=1), event("cancel_requested", attempt=1)], attempt=1)

    assert await orphans(store) == []


async def test_a_process_whose_heartbeats_stop_owns_nothing_and_has_no_callers(opened: Opened) -> None:
    watch = Watch()
    async with opened(watch) as store:
        await store.heartbeat("one")
        await store.publish_callers("one", ["t"])
        await store.append([submitted(), started(worker="one")], attempt=0)
        assert await store.heartbeat("two") == Peers(1, frozenset({"t"}))
        for _ in range(int(SILENCE_S) - 1):
            watch.now += 1.0
            assert (await store.heartbeat("two")).living == 1
            assert await orphans(store, "two") == []
        watch.now += 1.0

        assert await store.heartbeat("two") == Peers(0, frozenset())
        assert await orphans(store, "two") == ["t"]
        await store.heartbeat("one")
        assert await store.heartbeat("two") == Peers(1, frozenset({"t"}))
        assert await orphans(store, "two") == []


async def test_a_process_that_stood_still_itself_takes_nobody_for_dead(opened: Opened) -> None:
    watch = Watch()
    async with opened(watch) as store:
        await store.heartbeat("one")
        await store.append([submitted(), started(worker="one")], attempt=0)
        await store.heartbeat("two")
        for _ in range(3):
            watch.now += 3600.0
            assert (await store.heartbeat("two")).living == 1
        assert await orphans(store, "two") == []


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
async def test_a_clock_that_is_set_takes_nobody_for_dead(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:

    watch, wall, wall_ns = Watch(), time.time, time.time_ns
    async with opened(watch) as store:
        await store.heartbeat("one")
        await store.append([submitted(), started(worker="one")], attempt=0)
        await store.heartbeat("two")
        monkeypatch.setattr(time, "time", lambda: wall() + step_s)
        monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + int(step_s * 1e9))
        watch.now += 1.0

        assert (await store.heartbeat("two")).living == 1
        assert await orphans(store, "two") == []


async def test_a_process_that_left_owns_nothing(store: Database) -> None:
    await store.heartbeat("one")
    await store.append([submitted(), started(worker="one")], attempt=0)

    await store.deregister("one")

    assert await orphans(store) == ["t"]


async def test_what_has_callers_is_known_to_others_while_its_process_lives_and_says_so(store: Database) -> None:
    for worker, attached in (("one", ["t1", "t2"]), ("two", ["t3"])):
        await store.heartbeat(worker)
        await store.publish_callers(worker, attached)

    assert (await store.heartbeat("two")).attached == {"t1", "t2"}
    assert (await store.heartbeat("one")).attached == {"t3"}
    await store.publish_callers("one", {"t2"})
    assert (await store.heartbeat("two")).attached == {"t2"}
    await store.deregister("one")
    assert (await store.heartbeat("two")).attached == set()


async def test_overdue_is_what_waits_for_its_turn_or_for_input_past_its_time(store: Database) -> None:
    await store.append([submitted("queued", deadline_s=10)], attempt=0)
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


@pytest.mark.parametrize("arm", ["", "attempt_ended"])
async def test_a_task_that_works_past_its_deadline_is_overdue_as_a_last_resort(store: Database, arm: str) -> None:
    ended = [event(arm, attempt=1)] if arm else []
    await store.append([submitted(deadline_s=10), started(worker="one"), *ended], attempt=0)
    last_us = AT_US + 10_000_000 + LAST_RESORT_US

    assert await store.overdue(last_us - 1) == []
    assert await store.overdue(last_us) == ["t"]

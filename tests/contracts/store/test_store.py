"""What every store does with journals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import pytest

from agent_service.journal import append
from agent_service.journal.event_rules import TERMINAL
from agent_service.journal.refusals import AppendRefusedError
from agent_service.store.base import Appended, Database
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TaskState
from tests.contracts.stores import arms, numbered, outcomes, sequences
from tests.store.events import beginning, ending, event, unfinished

TERMINAL_ARMS = ["completed", "failed", "canceled", "rejected"]

# --- what is stored


async def test_what_was_appended_is_read_back_with_its_sequences(store: Database) -> None:
    first, second = beginning(), ending()

    assert (await store.append(first, attempt=0)).last_sequence == 2
    assert (await store.append(second, attempt=1)).last_sequence == 4

    stored = await store.read("t")
    assert sequences(stored) == [1, 2, 3, 4]
    assert stored == numbered(first + second)


async def test_journals_do_not_mix(store: Database) -> None:
    await store.append(beginning("a"), attempt=0)
    await store.append(beginning("b"), attempt=0)
    await store.append(ending("a"), attempt=1)

    assert arms(await store.read("a")) == ["submitted", "attempt_started", "model_replied", "completed"]
    assert arms(await store.read("b")) == ["submitted", "attempt_started"]


async def test_what_the_caller_does_to_its_events_afterwards_is_not_stored(store: Database) -> None:
    events = beginning()
    appended = asyncio.ensure_future(store.append(events, attempt=None))
    await asyncio.sleep(0)
    events[0].submitted.task = "another"
    events.append(event("completed"))
    await appended

    (await store.read("t"))[0].submitted.task = "a third"

    stored = await store.read("t")
    assert arms(stored) == ["submitted", "attempt_started"]
    assert stored[0].submitted.task == ""


async def test_a_sequence_that_an_event_brings_along_is_replaced(store: Database) -> None:
    events = beginning()
    events[1].sequence = 77

    await store.append(events, attempt=None)

    assert sequences(events) == [0, 77]
    assert sequences(await store.read("t")) == [1, 2]


async def test_a_journal_is_read_in_pages(store: Database) -> None:
    replies = [event("model_replied", attempt=1, text=str(n)) for n in range(8)]
    await store.append(beginning() + replies, attempt=None)

    assert sequences(await store.read("t", limit=4)) == [1, 2, 3, 4]
    assert sequences(await store.read("t", after_sequence=4, limit=4)) == [5, 6, 7, 8]
    assert sequences(await store.read("t", after_sequence=8, limit=4)) == [9, 10]
    assert await store.read("t", after_sequence=10) == []


async def test_an_unknown_task_has_no_events(store: Database) -> None:
    assert await store.read("nobody") == []


async def test_text_in_any_script_comes_back_as_it_was(store: Database) -> None:
    submitted = event("submitted", "täsk/☂\x00", text="Wird es regnen? 雨\x00☂")

    await store.append([submitted], attempt=None)

    assert await store.read("täsk/☂\x00") == numbered([submitted])
    assert await unfinished(store) == ["täsk/☂\x00"]


# --- what is refused


async def test_a_task_that_was_not_submitted_takes_no_events(store: Database) -> None:
    with pytest.raises(AppendRefusedError):
        await store.append(ending(), attempt=None)

    assert await store.read("t") == []


async def test_a_task_is_submitted_once(store: Database) -> None:
    assert await outcomes(store.append(beginning(), attempt=0), store.append(beginning(), attempt=0)) == [
        None,
        AppendRefusedError,
    ]
    assert sequences(await store.read("t")) == [1, 2]


async def test_a_new_task_has_no_attempt_to_own(store: Database) -> None:
    with pytest.raises(AppendRefusedError):
        await store.append(beginning(), attempt=1)

    assert await store.read("t") == []


@pytest.mark.parametrize("arm", TERMINAL_ARMS)
@pytest.mark.parametrize("attempt", [1, None])
async def test_a_task_that_is_over_takes_no_events(store: Database, arm: str, attempt: int | None) -> None:
    await store.append([*beginning(), event(arm, attempt=1)], attempt=None)

    with pytest.raises(AppendRefusedError):
        await store.append([event("cancel_requested", attempt=1)], attempt=attempt)

    assert sequences(await store.read("t")) == [1, 2, 3]


@pytest.mark.parametrize("attempt", [0, 1, 3])
async def test_only_the_newest_attempt_writes(store: Database, attempt: int) -> None:
    await store.append([*beginning(), event("attempt_started", attempt=2)], attempt=None)

    with pytest.raises(AppendRefusedError):
        await store.append(ending(), attempt=attempt)

    assert sequences(await store.read("t")) == [1, 2, 3]
    await store.append(ending(), attempt=2)


async def test_who_names_no_attempt_writes_whatever_it_is(store: Database) -> None:
    await store.append(beginning(), attempt=0)

    await store.append([event("cancel_requested")], attempt=None)
    await store.append(ending(), attempt=1)

    assert sequences(await store.read("t")) == [1, 2, 3, 4, 5]


async def test_a_task_is_taken_over_once(store: Database) -> None:
    await store.append(beginning(), attempt=0)

    takeovers = [store.append([event("attempt_started", attempt=2)], attempt=1) for _ in range(3)]

    assert await outcomes(*takeovers) == [None, AppendRefusedError, AppendRefusedError]
    assert await outcomes(store.append(ending(), attempt=1), store.append(ending(), attempt=2)) == [
        AppendRefusedError,
        None,
    ]


async def test_a_refused_append_leaves_nothing_behind_and_its_neighbours_stand(store: Database) -> None:
    await asyncio.gather(*(store.append(beginning(f"t{n}"), attempt=0) for n in range(9)))
    refused = [event("model_replied", "t4", attempt=7), event("completed", "t4", attempt=7)]

    appends = [store.append(ending(f"t{n}") if n != 4 else refused, attempt=1 if n != 4 else 7) for n in range(9)]

    assert await outcomes(*appends) == [None] * 4 + [AppendRefusedError] + [None] * 4
    assert sequences(refused) == [0, 0]
    assert [len(await store.read(f"t{n}")) for n in range(9)] == [4] * 4 + [2] + [4] * 4
    await store.append(ending("t4"), attempt=1)


BAD_APPENDS = {
    "no events": [],
    "no task": [TaskEvent(submitted=event("submitted").submitted)],
    "two tasks": [*beginning("t"), event("completed", "u")],
    "submitted twice": [event("submitted"), event("submitted")],
    "submitted later": [event("attempt_started", attempt=1), event("submitted")],
    "after the end": [event("submitted"), event("completed"), event("model_replied")],
    "nothing happened": [event("submitted"), TaskEvent(task_id="t")],
    "heartbeat": [event("submitted"), event("heartbeat")],
    "live text": [event("submitted"), event("text_delta")],
    "too large": [event("submitted", text="x" * 1001)],
}


@pytest.mark.parametrize("events", BAD_APPENDS.values(), ids=BAD_APPENDS.keys())
async def test_what_no_journal_can_hold_is_a_fault_of_the_caller(
    store: Database, events: list[TaskEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "EVENT_BYTES_MAX", 1000)
    appended = store.append(events, attempt=None)

    with pytest.raises(ValueError, match=r"."):
        await appended

    assert await unfinished(store) == []


# --- order and concurrency


async def test_appends_are_stored_in_the_order_of_the_calls(store: Database) -> None:
    replies = [event("model_replied", attempt=1, text=str(n)) for n in range(300)]
    calls = [store.append(beginning(), attempt=0)]
    calls += [store.append([reply], attempt=1) for reply in replies]
    calls += [store.append([event("completed", attempt=1)], attempt=1), store.append([replies[0]], attempt=1)]

    assert await outcomes(*calls) == [None] * 302 + [AppendRefusedError]
    stored = await store.read("t")
    assert sequences(stored) == list(range(1, 304))
    assert [each.model_replied.text for each in stored[2:-1]] == [str(n) for n in range(300)]


async def test_many_tasks_at_once_each_get_their_own_journal(store: Database) -> None:
    async def live(task_id: str) -> list[TaskEvent]:
        first, second = beginning(task_id), ending(task_id)
        await store.append(first, attempt=0)
        await store.append(second, attempt=1)
        return first + second

    lived = await asyncio.gather(*(live(f"t{n}") for n in range(700)))

    for n in (0, 63, 64, 65, 511, 512, 699):
        assert await store.read(f"t{n}") == numbered(lived[n])
    assert await unfinished(store) == []


async def test_who_stops_waiting_does_not_take_the_append_back(store: Database) -> None:
    appended = asyncio.ensure_future(store.append(beginning(), attempt=0))
    await asyncio.sleep(0)
    appended.cancel()

    await store.append(ending(), attempt=1)

    assert sequences(await store.read("t")) == [1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(3))
async def test_any_mixture_of_appends_obeys_the_one_rule(store: Database, seed: int) -> None:
    """The rule told again, as plainly as can be: what it admits is stored, and nothing else."""
    dice = random.Random(seed)
    journals: dict[str, list[TaskEvent]] = {}
    calls: list[Awaitable[Appended]] = []
    expected: list[object] = []
    for _ in range(400):
        task_id, attempt = f"t{dice.randrange(8)}", dice.choice([None, 0, 1, 1, 2, 2, 3])
        arm = dice.choices(["submitted", "attempt_started", "model_replied", "completed"], [4, 4, 20, 1])[0]
        appended = [event(arm, task_id, attempt=dice.choice([0, 1, 2]), text=str(dice.random()))]
        journal = journals.get(task_id, [])
        newest = max((each.attempt for each in journal), default=0)
        admitted = (arm == "submitted") == (not journal) and attempt in (None, newest)
        if admitted and arms(journal)[-1:] != ["completed"]:
            journals[task_id] = journal + appended
            expected.append(None)
        else:
            expected.append(AppendRefusedError)
        calls.append(store.append(appended, attempt=attempt))

    assert await outcomes(*calls) == expected
    assert {task_id: await store.read(task_id) for task_id in journals} == {
        task_id: numbered(journal) for task_id, journal in journals.items()
    }


# --- recovery and readiness


def test_the_arms_above_are_all_that_end_a_task() -> None:
    assert {TaskState.Value(f"TASK_STATE_{arm.upper()}") for arm in TERMINAL_ARMS} == TERMINAL


async def test_a_store_that_works_passes_its_check(store: Database) -> None:
    await asyncio.gather(store.check(), store.append(beginning(), attempt=0), store.check())
    await store.check()

    assert sequences(await store.read("t")) == [1, 2]

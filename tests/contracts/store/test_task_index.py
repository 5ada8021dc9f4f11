"""What every store does to find tasks."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import replace

import pytest

from agent_service.journal import append_rule
from agent_service.journal.refusals import (
    AppendRefusedError,
    RequestIdTakenError,
    SessionBusyError,
    SessionOfOtherAgentError,
    StaleAppendError,
)
from agent_service.store.base import Appended, Database, TaskQuery
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_SUBMITTED, TASK_STATE_WORKING
from tests.contracts.stores import outcomes
from tests.store.events import AT, ending, event, started, submitted, waits

AT_US = AT.ToMicroseconds()


async def ids_in_pages(store: Database, query: TaskQuery) -> list[str]:
    """All of a list, page by page, each of which ends early where much was looked through."""
    found: list[str] = []
    while True:
        page = await store.list_tasks(query)
        assert len(page.rows) <= query.limit
        found += [row.task_id for row in page.rows]
        if page.rest is None:
            return found
        assert query.before is None or page.rest < query.before
        query = replace(query, before=page.rest)


async def ids(store: Database, query: TaskQuery) -> list[str]:
    return [row.task_id for row in (await store.list_tasks(query)).rows]


# --- one task


async def test_a_task_is_found_as_lists_have_it(store: Database) -> None:
    await store.append([submitted("a"), started("a")], attempt=0)
    await store.append([submitted("b", tenant="globex")], attempt=0)
    for task_id in ("a", "b"):
        (listed,) = [row for row in (await store.list_tasks(TaskQuery())).rows if row.task_id == task_id]
        assert await store.find(task_id) == listed
    await store.append(ending("a"), attempt=1)
    found = await store.find("a")
    assert found is not None
    assert (found.tenant, found.state, found.attempt) == ("acme", TASK_STATE_COMPLETED, 1)
    assert (found.first.sequence, found.last.sequence, found.last.WhichOneof("event")) == (1, 4, "completed")


async def test_no_task_is_found_where_there_is_none(store: Database) -> None:
    await store.append([submitted("a")], attempt=0)
    assert await store.find("b") is None
    assert await store.find("") is None


# --- idempotency keys


async def test_a_request_id_names_one_task_of_its_tenant(store: Database) -> None:
    await store.append([submitted("a", request="r")], attempt=0)

    with pytest.raises(RequestIdTakenError) as taken:
        await store.append([submitted("b", request="r")], attempt=0)

    assert taken.value.task_id == "a"
    assert await store.read("b") == []
    await store.append([submitted("c", request="r", tenant="globex")], attempt=0)
    await store.append([submitted("d", request="s")], attempt=0)


async def test_of_many_at_once_one_gets_the_name_and_the_others_are_told_which(store: Database) -> None:
    appends = [store.append([submitted(f"t{n}", request="r"), started(f"t{n}")], attempt=0) for n in range(64)]
    results = await asyncio.gather(*appends, return_exceptions=True)

    assert isinstance(results[0], Appended)
    assert [str(one.task_id) for one in results[1:] if isinstance(one, RequestIdTakenError)] == ["t0"] * 63
    assert await ids(store, TaskQuery(limit=99)) == ["t0"]


async def test_a_name_is_free_again_after_its_time(store: Database) -> None:
    await store.append([submitted("a", request="r")], attempt=0)

    at_last = submitted("b", request="r", at_s=append_rule.REQUEST_ID_S - 0.001)
    assert await outcomes(store.append([at_last], attempt=0)) == [RequestIdTakenError]
    await store.append([submitted("c", request="r", at_s=append_rule.REQUEST_ID_S)], attempt=0)
    with pytest.raises(RequestIdTakenError) as taken:
        await store.append([submitted("d", request="r", at_s=append_rule.REQUEST_ID_S + 1)], attempt=0)
    assert taken.value.task_id == "c"


async def test_a_name_is_found_by_the_clock(store: Database) -> None:
    fresh = submitted("a", request="r")
    fresh.create_time.GetCurrentTime()
    await store.append([fresh], attempt=0)
    await store.append([submitted("old", request="q")], attempt=0)

    assert await store.of_request("acme", "r") == "a"
    assert await store.of_request("globex", "r") == ""
    assert await store.of_request("acme", "q") == ""


async def test_a_name_is_found_also_after_the_clock_was_set(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = submitted("a", request="r")
    fresh.create_time.GetCurrentTime()
    await store.append([fresh], attempt=0)
    now = time.time
    for step_s in (2 * append_rule.REQUEST_ID_S, -2 * append_rule.REQUEST_ID_S):
        monkeypatch.setattr(time, "time", lambda step_s=step_s: now() + step_s)
        assert await store.of_request("acme", "r") == "a"


# --- appends behind a known end


async def test_an_append_may_insist_on_the_end_that_it_knows(store: Database) -> None:
    await store.append([submitted(), started()], attempt=0)

    assert await outcomes(store.append([event("cancel_requested", attempt=1)], attempt=None, after=1)) == [
        StaleAppendError
    ]
    both = [store.append([event("cancel_requested", attempt=1)], attempt=None, after=2) for _ in range(2)]
    assert await outcomes(*both) == [None, StaleAppendError]


# --- sessions


async def test_a_session_has_one_agent_in_a_tenant(store: Database) -> None:
    await store.append([submitted("a", session="s"), started("a"), *ending("a")], attempt=0)

    with pytest.raises(SessionOfOtherAgentError) as refused:
        await store.append([submitted("b", session="s", agent="planner")], attempt=0)

    assert refused.value.agent == "assistant"
    await store.append([submitted("c", session="s", agent="planner", tenant="globex")], attempt=0)


@pytest.mark.parametrize("waiting_max", [0, 1, 3])
async def test_so_many_unfinished_tasks_may_stand_before_a_new_one(store: Database, waiting_max: int) -> None:
    appends = [
        store.append([submitted(f"t{n}", session="s", waiting_max=waiting_max)], attempt=0)
        for n in range(waiting_max + 3)
    ]

    assert await outcomes(*appends) == [None] * (waiting_max + 1) + [SessionBusyError] * 2


async def test_tasks_of_a_session_begin_in_order_one_after_the_other(store: Database) -> None:
    for task_id in ("a", "b", "c"):
        await store.append([submitted(task_id, session="s", waiting_max=9)], attempt=0)
    await store.append([submitted("x", session="other"), started("x")], attempt=0)

    assert await outcomes(store.append([started("b")], attempt=0)) == [SessionBusyError]
    await store.append([started("a")], attempt=0)
    assert await outcomes(store.append([started("b")], attempt=0)) == [SessionBusyError]
    # In one commit: the end of the first lets the second begin, and not the third.
    appends = [
        store.append(ending("a"), attempt=1),
        store.append([started("c")], attempt=0),
        store.append([started("b")], attempt=0),
    ]
    assert await outcomes(*appends) == [None, SessionBusyError, None]
    await store.append([started("b", attempt=2)], attempt=1)


async def test_a_new_task_may_begin_at_once_where_its_session_is_free(store: Database) -> None:
    await store.append([submitted("a", session="s"), started("a")], attempt=0)

    beginning = [submitted("b", session="s", waiting_max=5), started("b")]
    assert await outcomes(store.append(beginning, attempt=0)) == [SessionBusyError]
    assert await store.read("b") == []
    await store.append(ending("a"), attempt=1)
    await store.append(beginning, attempt=0)


# --- lists


async def test_tasks_are_listed_newest_first_in_pages(store: Database) -> None:
    for n in range(7):
        await store.append([submitted(f"t{n}")], attempt=0)

    first = (await store.list_tasks(TaskQuery(tenant="acme", limit=3))).rows
    rest = (await store.list_tasks(TaskQuery(tenant="acme", before=first[-1].cursor, limit=9))).rows

    assert [row.task_id for row in first + rest] == [f"t{n}" for n in reversed(range(7))]
    assert await ids(store, TaskQuery(tenant="globex")) == []


async def test_a_row_has_the_ends_of_the_journal(store: Database) -> None:
    await store.append([submitted("a"), started("a"), *ending("a")], attempt=0)

    (row,) = (await store.list_tasks(TaskQuery(tenant="acme"))).rows

    stored = await store.read("a")
    assert (row.first, row.last) == (stored[0], stored[-1])
    assert (row.task_id, row.tenant, row.state, row.attempt) == ("a", "acme", TASK_STATE_COMPLETED, 1)


async def test_what_is_asked_for_and_nothing_else_is_listed(store: Database) -> None:
    """Against the plainest filter there is, over all combinations of what can be asked for."""
    dice = random.Random(7)
    tasks = {}
    for n in range(60):
        one = submitted(
            f"t{n}",
            tenant=dice.choice(["acme", "globex"]),
            agent=dice.choice(["assistant", "planner"]),
            session=dice.choice(["", f"s{n}", f"u{n}"]),
            labels=dice.choice([{}, {"env": "prod"}, {"env": "prod", "team": "x"}, {"env": "dev"}]),
            key=dice.choice(["ci", "batch"]),
            at_s=n,
        )
        is_begun = dice.random() < 0.7
        is_over = is_begun and dice.random() < 0.5
        state = TASK_STATE_COMPLETED if is_over else TASK_STATE_WORKING if is_begun else TASK_STATE_SUBMITTED
        tasks[f"t{n}"] = (one, state)
        events = [one, *([started(f"t{n}")] if is_begun else []), *(ending(f"t{n}") if is_over else [])]
        await store.append(events, attempt=0)

    choices = itertools.product(
        [None, "acme"],
        ["", "planner"],
        [frozenset(), frozenset({TASK_STATE_WORKING}), frozenset({TASK_STATE_COMPLETED, TASK_STATE_SUBMITTED})],
        ["", "s12"],
        [{}, {"env": "prod"}, {"env": "prod", "team": "x"}],
        [None, AT_US + 20_000_000],
        [None, AT_US + 40_000_000],
        ["", "ci"],
    )
    for tenant, agent, states, session, labels, since, until, key in choices:
        wanted = [
            task_id
            for task_id, (one, state) in reversed(tasks.items())
            if tenant in (None, one.submitted.tenant)
            and agent in ("", one.submitted.agent)
            and (not states or state in states)
            and session in ("", one.submitted.session_id)
            and labels.items() <= dict(one.submitted.labels).items()
            and (since is None or one.create_time.ToMicroseconds() >= since)
            and (until is None or one.create_time.ToMicroseconds() < until)
            and key in ("", one.submitted.submitted_by)
        ]
        query = TaskQuery(tenant, agent, states, session, labels, since, until, limit=99, submitted_by=key)
        assert await ids(store, query) == wanted, query
        assert await ids_in_pages(store, replace(query, limit=4, walked_max=5)) == wanted, query


async def test_refusals_of_names_and_sessions_are_refusals() -> None:
    for refusal in (StaleAppendError, RequestIdTakenError, SessionBusyError, SessionOfOtherAgentError):
        assert issubclass(refusal, AppendRefusedError)


# --- those that wait for somebody


async def test_the_tasks_that_wait_for_input_are_counted(store: Database) -> None:
    assert await store.waiting_for_input() == 0
    for task_id in ("a", "b", "c"):
        await store.append([submitted(task_id), started(task_id)], attempt=0)
    for task_id in ("a", "b"):
        await store.append([waits(task_id, until_s=60)], attempt=1)
    assert await store.waiting_for_input() == 2
    await store.append(ending("a"), attempt=None)
    assert await store.waiting_for_input() == 1

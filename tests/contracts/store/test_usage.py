"""What every store knows of what was used: the sum of all journals, whatever happened to them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_service.engine.task.state import FoldedTask
from agent_service.journal.usage import Amounts
from agent_service.store.base import Database
from agent_service.store.usage import UsageQuery
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Usage
from tests.store.events import AT, event, started, submitted

HOUR = AT.seconds // 3600
TENANTS = count()

Sums = dict[tuple[object, ...], Amounts]


def used(arm: str, task_id: str, *, hour: int = 0, attempt: int = 1, model: str = "", **usage: object) -> TaskEvent:
    """An event that uses something, so many hours after AT."""
    made = event(arm, task_id, attempt=attempt)
    made.create_time.seconds += 3600 * hour
    if arm == "model_started":
        made.model_started.model = model
    elif arm != "submitted":
        getattr(made, arm).usage.CopyFrom(Usage(**usage))  # type: ignore[arg-type] # the fields of Usage
    return made


def tool_started(task_id: str, call_id: str, *, attempt: int = 1) -> TaskEvent:
    made = event("tool_started", task_id, attempt=attempt)
    made.tool_started.tool_call_id = call_id
    return made


def accepted(task_id: str, *, tenant: str = "acme", agent: str = "assistant", model: str = "smart") -> TaskEvent:
    made = submitted(task_id, tenant=tenant, agent=agent)
    made.submitted.model = model
    return made


async def sums(store: Database, *by: str, bucket_hours: int = 0, **wanted: object) -> Sums:
    """What a query answers: amounts by hour, where there are buckets, and the groups in the order of `by`."""
    query = UsageQuery(group_by=frozenset(by), bucket_hours=bucket_hours, **wanted)  # type: ignore[arg-type]
    rows = await store.usage(query)
    hours = [(row.hour,) if bucket_hours else () for row in rows]
    return {(*hour, *(getattr(row, part) for part in by)): row.amounts for hour, row in zip(hours, rows, strict=True)}


async def test_a_task_uses_what_its_events_say(store: Database) -> None:
    await store.append([accepted("t"), started("t"), used("model_started", "t", model="smart")], attempt=0)
    replied = used(
        "model_replied",
        "t",
        input_tokens=100,
        cached_input_tokens=40,
        output_tokens=20,
        reasoning_tokens=5,
        cost_nanos=7,
    )
    await store.append([replied, tool_started("t", "c1"), tool_started("t", "c2")], attempt=1)

    assert await sums(store, "tenant", "agent", "model") == {
        ("acme", "assistant", "smart"): Amounts(1, 1, 2, 100, 40, 20, 5, 7, 0, 0, 0, 0)
    }


async def test_nothing_was_used_of_an_empty_store(store: Database) -> None:
    assert await sums(store) == {}


async def test_a_request_belongs_to_the_model_that_was_asked_and_a_tool_call_to_the_one_that_was_asked_last(
    store: Database,
) -> None:
    await store.append([accepted("t", model="smart"), started("t")], attempt=0)
    await store.append([used("model_started", "t", model="smart")], attempt=1)
    await store.append([used("model_failed", "t", input_tokens=1, cost_nanos=1)], attempt=1)
    await store.append([used("model_started", "t", model="spare")], attempt=1)
    await store.append([used("model_replied", "t", input_tokens=2, cost_nanos=3), tool_started("t", "c")], attempt=1)

    assert await sums(store, "model") == {
        ("smart",): Amounts(tasks=1, model_calls=1, input_tokens=1, cost_nanos=1),
        ("spare",): Amounts(model_calls=1, tool_calls=1, input_tokens=2, cost_nanos=3),
    }


async def test_what_was_estimated_and_what_has_no_price_is_told_beside_the_sums(store: Database) -> None:
    await store.append([accepted("t"), started("t"), used("model_started", "t", model="smart")], attempt=0)
    await store.append(
        [
            used("model_failed", "t", input_tokens=10, output_tokens=1, estimated=True, cost_nanos=5),
            used("model_started", "t", model="free"),
            used("model_replied", "t", input_tokens=10, output_tokens=2),
            used("model_started", "t", model="free"),
            used("model_failed", "t"),
        ],
        attempt=1,
    )

    found = await sums(store, "model")
    assert found["smart",] == Amounts(1, 1, 0, 10, 0, 1, 0, 5, 1, 11, 5, 0)
    assert found["free",] == Amounts(0, 2, 0, 10, 0, 2, 0, 0, 0, 0, 0, 1)


async def test_a_request_that_was_never_sent_is_no_call(store: Database) -> None:
    await store.append([accepted("t"), started("t"), used("model_started", "t", model="smart")], attempt=0)
    never_sent = event("model_failed", "t", attempt=1)
    await store.append([never_sent, event("canceled", "t", attempt=1)], attempt=1)
    assert await sums(store) == {(): Amounts(tasks=1)}


async def test_a_tool_call_that_is_run_again_after_a_crash_is_the_same_call(store: Database) -> None:
    await store.append([accepted("t"), started("t"), tool_started("t", "c1")], attempt=0)
    await store.append([event("attempt_ended", "t", attempt=1), started("t", attempt=2)], attempt=1)
    await store.append([tool_started("t", "c1", attempt=2), tool_started("t", "c2", attempt=2)], attempt=2)

    assert (await sums(store))[()].tool_calls == 2


async def test_it_is_the_same_call_also_where_both_starts_are_stored_at_once(store: Database) -> None:
    again = [event("attempt_ended", "t", attempt=1), started("t", attempt=2), tool_started("t", "c1", attempt=2)]
    await store.append([accepted("t"), started("t"), tool_started("t", "c1"), *again], attempt=0)

    assert (await sums(store))[()].tool_calls == 1


async def test_a_refused_append_uses_nothing(store: Database) -> None:
    await store.append([accepted("t"), started("t")], attempt=0)
    late = [used("model_started", "t", model="smart"), used("model_replied", "t", input_tokens=5)]
    fenced = store.append(late, attempt=7)
    fitting = store.append([used("model_started", "t", model="spare")], attempt=1)
    await asyncio.gather(fenced, fitting, return_exceptions=True)

    assert await sums(store, "model") == {("smart",): Amounts(tasks=1), ("spare",): Amounts(model_calls=1)}


async def test_a_request_that_runs_into_the_next_hour_counts_where_it_ends(store: Database) -> None:
    await store.append([accepted("t"), started("t"), used("model_started", "t", model="m", hour=0)], attempt=0)
    await store.append([used("model_replied", "t", hour=1, output_tokens=9)], attempt=1)

    assert {key: found.output_tokens for key, found in (await sums(store, bucket_hours=1)).items()} == {
        (HOUR,): 0,
        (HOUR + 1,): 9,
    }


async def test_an_erased_task_has_used_what_it_used(store: Database) -> None:
    for n, erase in enumerate(
        (store.erase("t0"), store.erase_session("acme", "s"), store.erase_finished(AT.ToMicroseconds() + 1, limit=9))
    ):
        first = accepted(f"t{n}")
        first.submitted.session_id = "s" if n == 1 else ""
        await store.append([first, started(f"t{n}"), event("completed", f"t{n}", attempt=1)], attempt=0)
        assert await erase

    assert await store.read("t0") == await store.read("t1") == await store.read("t2") == []
    assert (await sums(store))[()].tasks == 3


async def test_a_query_asks_for_some_of_it(store: Database) -> None:
    for n, (tenant, agent, model) in enumerate(
        [("acme", "a", "m"), ("acme", "a", "n"), ("acme", "b", "m"), ("globex", "a", "m")]
    ):
        at_hour = accepted(f"t{n}", tenant=tenant, agent=agent, model=model)
        at_hour.create_time.seconds += 3600 * n
        await store.append([at_hour], attempt=0)

    async def tasks(**wanted: object) -> int:
        return sum(found.tasks for found in (await sums(store, **wanted)).values())  # type: ignore[arg-type, misc]

    assert await tasks() == 4
    assert await tasks(tenant="acme") == 3
    assert await tasks(agent="a") == 3
    assert await tasks(model="m") == 3
    assert await tasks(tenant="acme", agent="a", model="m") == 1
    assert await tasks(since_hour=HOUR + 1) == 3
    assert await tasks(before_hour=HOUR + 1) == 1
    assert await tasks(since_hour=HOUR + 1, before_hour=HOUR + 3) == 2
    assert await tasks(tenant="nobody") == 0


async def test_rows_are_sorted_by_time_then_tenant_agent_and_model_and_bounded(store: Database) -> None:
    wanted = [(hour, tenant, agent) for hour in (0, 30) for tenant in ("a", "ä", "b") for agent in ("x", "y")]
    for n, (hour, tenant, agent) in enumerate(reversed(wanted)):
        first = accepted(f"t{n}", tenant=tenant, agent=agent)
        first.create_time.seconds += 3600 * hour
        await store.append([first], attempt=0)

    query = UsageQuery(group_by=frozenset({"tenant", "agent", "model"}), bucket_hours=24)
    rows = await store.usage(query)
    assert [row[:4] for row in rows] == sorted(row[:4] for row in rows)
    assert len(rows) == len(wanted)
    assert {row.hour % 24 for row in rows} == {0}
    some = await store.usage(UsageQuery(group_by=query.group_by, bucket_hours=24, limit=5))
    assert some == rows[:5]


# --- any history

# What `Task.usage` shows too.
FIELDS = sorted(Amounts()._asdict().keys() & Usage.DESCRIPTOR.fields_by_name.keys())
COUNTS = st.integers(0, 50)
USAGES = st.builds(
    lambda read, written, cost, estimated: Usage(
        input_tokens=read,
        cached_input_tokens=read // 2,
        output_tokens=written,
        reasoning_tokens=written // 3,
        estimated=estimated,
        cost_nanos=cost,
    ),
    COUNTS,
    COUNTS,
    st.none() | COUNTS,
    st.booleans(),
)
STEPS = st.one_of(
    st.tuples(st.just("model_started"), st.sampled_from(["smart", "spare"])),
    st.tuples(st.sampled_from(["model_replied", "model_failed"]), USAGES),
    st.tuples(st.just("tool_started"), st.sampled_from(["c1", "c2", "c3"])),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("later"), st.integers(1, 30)),
)
TASKS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), st.lists(st.lists(STEPS, min_size=1, max_size=4), max_size=6), st.booleans()
    ),
    min_size=1,
    max_size=6,
)


class History:
    """A task's appends, one by one, as an engine could make them; `journal` has all of them in the end."""

    def __init__(self, task_id: str, tenant: str, agent: str) -> None:
        self.task_id = task_id
        self.journal: list[TaskEvent] = []
        self._first = [accepted(task_id, tenant=tenant, agent=agent), started(task_id)]
        self._attempt, self._hour = 1, 0
        self._calls: set[object] = set()  # of the attempt: in it, an id is given once

    def appends(
        self, steps: Sequence[Sequence[tuple[str, object]]], *, ends: bool
    ) -> Iterator[tuple[int, list[TaskEvent]]]:
        """Pairs of the attempt that owns the task, and events."""
        yield self._told(0, self._first)
        for some in steps:
            owned = self._attempt
            yield self._told(owned, [made for step in some for made in self._events(*step)])
        if ends:
            yield self._told(self._attempt, [event("completed", self.task_id, attempt=self._attempt)])

    def _told(self, owned: int, events: list[TaskEvent]) -> tuple[int, list[TaskEvent]]:
        self.journal += events
        return owned, events

    def _events(self, what: str, how: object) -> Iterator[TaskEvent]:
        if what == "later":
            self._hour += int(str(how))
            return
        if what == "crash":
            yield event("attempt_ended", self.task_id, attempt=self._attempt)
            self._attempt += 1
            self._calls.clear()
            made = started(self.task_id, attempt=self._attempt)
        elif what == "tool_started":
            if how in self._calls:
                return
            self._calls.add(how)
            made = tool_started(self.task_id, str(how), attempt=self._attempt)
        else:
            made = used(what, self.task_id, attempt=self._attempt, model=str(how))
            if isinstance(how, Usage):
                getattr(made, what).usage.CopyFrom(how)
        made.create_time.seconds += 3600 * self._hour
        yield made


def added_up(journal: Sequence[TaskEvent]) -> Iterator[tuple[tuple[str, int, str, str], dict[str, int]]]:
    """The plainest fold there is: what each event adds, for whom."""
    tenant = agent = model = ""
    calls: set[str] = set()
    for one in journal:
        arm = one.WhichOneof("event")
        adds: dict[str, int] = {}
        if arm == "submitted":
            tenant, agent, model = one.submitted.tenant, one.submitted.agent, one.submitted.model
            adds["tasks"] = 1
        elif arm == "model_started":
            model = one.model_started.model
            adds["model_calls"] = 1
        elif arm == "tool_started" and one.tool_started.tool_call_id not in calls:
            calls.add(one.tool_started.tool_call_id)
            adds["tool_calls"] = 1
        elif arm in ("model_replied", "model_failed"):
            usage: Usage = getattr(one, arm).usage
            tokens = usage.input_tokens + usage.output_tokens
            adds |= {name: getattr(usage, name) for name in FIELDS}
            if usage.estimated:
                adds |= {"estimated_calls": 1, "estimated_tokens": tokens, "estimated_cost_nanos": usage.cost_nanos}
            if tokens and not usage.HasField("cost_nanos"):
                adds["unpriced_calls"] = 1
        yield (tenant, one.create_time.seconds // 3600, agent, model), adds


@given(tasks=TASKS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_usage_is_the_fold_of_all_journals_that_ever_were(
    store: Database, tasks: list[tuple[str, list[list[tuple[str, object]]], bool]]
) -> None:
    tenant = f"tenant{next(TENANTS)}"
    histories = [History(f"{tenant}-{n}", tenant, agent) for n, (agent, _, _) in enumerate(tasks)]
    appended = [
        store.append(events, attempt=owned)
        for history, (_, steps, ends) in zip(histories, tasks, strict=True)
        for owned, events in history.appends(steps, ends=ends)
        if events
    ]
    await asyncio.gather(*appended)
    for history in histories:
        await store.erase(history.task_id)

    expected: dict[tuple[str, int, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for history in histories:
        for key, adds in added_up(history.journal):
            for name, amount in adds.items():
                expected[key][name] += amount
    rows = await store.usage(UsageQuery(tenant, bucket_hours=1, group_by=frozenset({"tenant", "agent", "model"})))
    found = {(row.tenant, row.hour, row.agent, row.model): row.amounts._asdict() for row in rows}
    nothing = Amounts()._asdict()
    assert {key: amounts for key, amounts in found.items() if amounts != nothing} == {
        key: nothing | amounts for key, amounts in expected.items() if any(amounts.values())
    }

    shown = [FoldedTask.fold(history.journal).task.usage for history in histories]
    (amounts,) = (await sums(store, tenant=tenant)).values()
    for name in FIELDS:
        assert getattr(amounts, name) == sum(getattr(usage, name) for usage in shown)

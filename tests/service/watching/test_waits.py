"""A task that waits is seen to wait: in GetTask, in streams, in the log and in the gauge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from agent_service.client import CallError, approve
from agent_service.client.following import is_journaled
from agent_service.engine.timing import Timing
from agent_service.limits.base import Rule
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import (
    TASK_STATE_WORKING,
    WAIT_CAUSE_INPUT,
    WAIT_CAUSE_LIMIT,
    WAIT_CAUSE_SESSION,
    WAIT_CAUSE_SLOT,
    WAIT_CAUSE_STORE,
    Task,
)
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, calls, says, started
from tests.service.worlds import PATIENCE_S, Gate, until

# Room for one request at a time, and for as long as any test.
# Reports are made by the test alone.
NEVER = Timing(report_waits=3600.0)
ONE_AT_A_TIME = Rule("default", tokens_max=210, window_s=200)


class Seen:
    """A stream that is read as it comes."""

    def __init__(self, events: AsyncGenerator[TaskEvent]) -> None:
        self.events: list[TaskEvent] = []
        self._reading = asyncio.ensure_future(self._read(events))

    async def _read(self, events: AsyncGenerator[TaskEvent]) -> None:
        async with aclosing(events):
            async for event in events:
                self.events.append(event)

    @property
    def arms(self) -> list[str]:
        return [str(event.WhichOneof("event")) for event in self.events]

    @property
    def waits(self) -> list[TaskEvent]:
        return [event for event in self.events if event.HasField("waiting")]

    async def shows(self, arm: str) -> TaskEvent:
        await until(lambda: arm in self.arms)
        return self.events[self.arms.index(arm)]

    async def end(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._reading


def limited(gate: Gate, **more: Any) -> Parts:
    return replace(Parts(timing=NEVER, model=FakeModel(gate.step), rules=[ONE_AT_A_TIME], timeout_s=300.0), **more)


async def waiting_for_limit(running: Running, gate: Gate) -> Task:
    """A task that waits for the tokens of one that is under way."""
    await running.client.submit("in the way")
    await gate.holds()
    task = await running.client.submit("go", detached=True)
    await until(lambda: waits_here(running, task.id))
    return task


def waits_here(running: Running, task_id: str) -> bool:
    driven = running.runner.running.get(task_id)
    return driven is not None and driven.waiting is not None


def told(running: Running) -> list[dict[str, Any]]:
    return [line for line in running.log if line["event"] == "task_waiting"]


async def test_get_task_shows_what_limit_a_task_waits_for_since_when_and_until_when() -> None:
    gate = Gate()
    async with started(limited(gate)) as running:
        began = time.time()
        task = await waiting_for_limit(running, gate)
        shown = await running.client.get_task(task.id)
        assert (shown.state, shown.waiting.cause, shown.waiting.rule) == (
            TASK_STATE_WORKING,
            WAIT_CAUSE_LIMIT,
            "default",
        )
        assert shown.waiting.message == "at most 210 tokens in 200 s for tenant:acme (rule default)"
        since_s, retry_s = (at.ToNanoseconds() / 1e9 for at in (shown.waiting.since, shown.waiting.retry_at))
        assert began <= since_s <= time.time() < retry_s <= began + 201
        page = (await running.client.list_tasks()).tasks
        assert {one.waiting.rule for one in page if one.id == task.id} == {"default"}
        gate.open()
        await running.is_quiet()
        assert not (await running.client.get_task(task.id)).HasField("waiting")
        assert "waiting" not in await running.journal(task.id)


async def test_a_stream_shows_a_wait_once_it_has_lasted_and_then_goes_on() -> None:
    gate = Gate()
    async with started(limited(gate)) as running:
        await running.client.submit("in the way")
        await gate.holds()
        seen = Seen(running.client.stream("go"))
        submitted = await seen.shows("submitted")
        await until(lambda: waits_here(running, submitted.task_id))
        await running.service.waits.report()
        await seen.shows("attempt_started")
        assert not seen.waits
        assert not told(running)
        for _ in range(3):
            await running.service.waits.report()
        event = await seen.shows("waiting")
        assert (event.sequence, event.attempt, is_journaled(event)) == (2, 1, False)
        assert (event.waiting.cause, event.waiting.rule) == (WAIT_CAUSE_LIMIT, "default")
        assert event.waiting.retry_at.seconds > event.waiting.since.seconds
        gate.open()
        await seen.end()
    assert [arm for arm in seen.arms if arm != "text_delta"] == [
        "submitted",
        "attempt_started",
        "waiting",
        "model_started",
        "model_replied",
        "completed",
    ]
    (line,) = told(running)
    assert (line["task_id"], line["cause"], line["rule"]) == (submitted.task_id, "limit", "default")


async def test_who_begins_to_watch_a_task_that_waits_is_shown_that_at_once() -> None:
    gate = Gate()
    async with started(limited(gate)) as running:
        task = await waiting_for_limit(running, gate)
        seen = Seen(running.client.watch(task.id, after_sequence=2))
        event = await seen.shows("waiting")
        assert (event.sequence, event.waiting.cause) == (2, WAIT_CAUSE_LIMIT)
        gate.open()
        await seen.end()
        assert seen.arms[0] == "waiting"


async def test_a_task_behind_its_session_and_one_without_a_place_to_run_say_so() -> None:
    gate = Gate()
    async with started(Parts(timing=NEVER, model=FakeModel(gate.step), running_max=2)) as running:
        first = await running.client.submit("go", session_id="s")
        await gate.holds()
        seen = Seen(running.client.stream("go", session_id="s", detached=True))
        behind = await seen.shows("submitted")
        await running.service.waits.report()
        await running.service.waits.report()
        event = await seen.shows("waiting")
        assert (event.sequence, event.attempt, event.waiting.cause) == (1, 0, WAIT_CAUSE_SESSION)
        assert event.waiting.since == behind.create_time

        await running.client.submit("go")
        await gate.holds(2)
        late = await running.client.submit("go")
        shown = {one.id: one.waiting for one in (await running.client.list_tasks()).tasks}
        causes = {task_id: waiting.cause for task_id, waiting in shown.items() if waiting.cause}
        assert causes == {behind.task_id: WAIT_CAUSE_SESSION, late.id: WAIT_CAUSE_SLOT}
        assert shown[late.id].message == "the server runs as many tasks as it may"
        assert {key: count() for key, count in running.service.waits.counts(["default"]).items()} == {
            ("session", ""): 1,
            ("slot", ""): 1,
            ("store", ""): 0,
            ("limit", "default"): 0,
        }
        await running.service.waits.report()
        await running.service.waits.report()
        assert {(line["task_id"], line["cause"]) for line in told(running)} == {
            (behind.task_id, "session"),
            (late.id, "slot"),
        }
        gate.open()
        await seen.end()
        await running.is_quiet()
        assert not (await running.client.get_task(first.id)).HasField("waiting")
        assert not any(count() for count in running.service.waits.counts(["default"]).values())


async def test_a_process_says_nothing_of_the_waits_of_tasks_that_another_has_begun() -> None:
    store, first, second, elsewhere = FakeStore(), Gate(), Gate(), Gate()
    here = Parts(
        timing=Timing(report_waits=3600.0, adopt=0.01),
        model=FakeModel(first.step, second.step),
        store=store,
        running_max=1,
    )
    there = Parts(
        timing=Timing(report_waits=3600.0, adopt=0.01), model=FakeModel(elsewhere.step), store=store, running_max=1
    )
    async with started(here) as one, started(there) as other:
        await one.client.submit("in the way")
        await first.holds()
        await other.client.submit("in the way")
        await elsewhere.holds()
        task = await one.client.submit("go")
        shown = await other.client.get_task(task.id)
        async with asyncio.timeout(PATIENCE_S):
            while not shown.HasField("waiting"):
                shown = await other.client.get_task(task.id)
        assert shown.waiting.cause == WAIT_CAUSE_SLOT
        first.open()
        await second.holds()
        shown = await other.client.get_task(task.id)
        assert (shown.state, shown.HasField("waiting")) == (TASK_STATE_WORKING, False)
        second.open()
        elsewhere.open()
        await one.is_quiet()


async def test_a_task_that_the_store_holds_up_says_so_and_goes_on_with_it() -> None:
    store, gate = FakeStore(), Gate()
    async with started(Parts(timing=NEVER, model=FakeModel(gate.step), store=store)) as running:
        seen = Seen(running.client.stream("go"))
        await gate.holds()
        await seen.shows("model_started")
        store.failures = 1_000_000
        gate.open()
        await until(lambda: waits_here(running, seen.events[0].task_id))
        await running.service.waits.report()
        assert running.service.waits.counts([])["store", ""]() == 1
        await running.service.waits.report()
        event = await seen.shows("waiting")
        assert (event.sequence, event.waiting.cause) == (3, WAIT_CAUSE_STORE)
        store.failures = 0
        await seen.end()
    assert seen.arms[-2:] == ["model_replied", "completed"]
    assert len(seen.waits) == 1


async def test_a_task_that_waits_for_an_approval_says_so_until_it_has_it() -> None:
    @tool(side_effect="read_only")
    async def look() -> str:
        """Looks."""
        return "seen"

    parts = Parts(
        timing=NEVER, model=FakeModel(calls(("look", {})), says("done")), tools=[look], needs_approval=["look"]
    )
    async with started(parts) as running:
        asking = await running.client.run("go")
        shown = await running.client.get_task(asking.id)
        assert shown.waiting == asking.waiting
        assert (shown.waiting.cause, shown.waiting.since) == (WAIT_CAUSE_INPUT, shown.update_time)
        await running.client.resume(asking.id, shown.pending_inputs[0].input_id, approve())
        await running.is_quiet()
        assert not (await running.client.get_task(asking.id)).HasField("waiting")


async def test_the_gauge_counts_the_tasks_that_wait_for_each_rule() -> None:
    gate = Gate()
    other = Rule("other", model_calls_max=1000)
    async with started(limited(gate, rules=[ONE_AT_A_TIME, other])) as running:
        running.metrics.watch_waits(running.service.waits.counts(["default", "other"]))
        await waiting_for_limit(running, gate)

        async def shown(cause: str, rule: str = "") -> float | None:
            await running.service.waits.report()
            labels = {"cause": cause, "rule": rule}
            return running.metrics.registry.get_sample_value("agent_service_tasks_waiting", labels)

        assert [await shown("limit", "default"), await shown("limit", "other"), await shown("slot")] == [1, 0, 0]
        gate.open()
        await running.is_quiet()
        assert await shown("limit", "default") == 0


async def test_a_drain_does_not_wait_for_a_task_that_waits_for_a_limit() -> None:
    gate = Gate()
    async with started(limited(gate, drain_grace_s=300.0)) as running:
        task = await waiting_for_limit(running, gate)
        caller = asyncio.ensure_future(running.client.run("go"))
        await until(lambda: sum(one.waiting is not None for one in running.runner.running.values()) == 2)
        drain = asyncio.ensure_future(running.server.drain())
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(CallError, match="DRAINING"):
                await caller
        await until(lambda: len(running.runner.running) == 1)  # the one that is at work
        assert (await running.journal(task.id))[-1] == "attempt_ended"
        gate.open()
        async with asyncio.timeout(PATIENCE_S):
            await drain


async def test_a_task_that_meets_a_full_limit_during_a_drain_is_released_there() -> None:
    gate = Gate()

    async def asks_for_a_tool(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await gate.step(request, observer)
        made: ModelReply = await calls(("nothing", {}))(request, observer)
        return made

    one_request = Rule("default", model_calls_max=1, window_s=200)
    parts = limited(gate, model=FakeModel(asks_for_a_tool), rules=[one_request], drain_grace_s=300.0)
    async with started(parts) as running:
        task = await running.client.submit("go")
        await gate.holds()
        drain = asyncio.ensure_future(running.server.drain())
        await until(lambda: running.service.drain_state.has_begun)
        gate.open()
        async with asyncio.timeout(PATIENCE_S):
            await drain
        assert (await running.journal(task.id))[-2:] == ["tool_finished", "attempt_ended"]

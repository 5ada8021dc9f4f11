"""What every dispatcher does. A new adapter is one more entry in `dispatchers.ADAPTERS`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from agent_service.client import approve
from agent_service.engine.dispatch.base import Dispatcher, Submission
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.task.inputs import received
from agent_service.engine.timing import Timing
from agent_service.errors import OverloadedError
from agent_service.journal.refusals import RequestIdTakenError
from agent_service.text.times import set_nanos
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_DRAIN, TaskSubmitted
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_USER,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_INPUT_REQUIRED,
    Task,
)
from tests.contracts.dispatchers import ADAPTERS
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, calls, says, started
from tests.service.worlds import PATIENCE_S, Gate, until

Make = Callable[[Running], Dispatcher]
ANY_ADAPTER = pytest.mark.parametrize("make", ADAPTERS.values(), ids=list(ADAPTERS))
# No sweep does the dispatcher's work.
NEVER = Timing(adopt=3600.0, deadline=3600.0)


@dataclass
class World:
    """A service, and the dispatcher that is tested beside it."""

    running: Running
    dispatcher: Dispatcher

    async def submit(self, task_id: str = "t", *, request_id: str = "", may_wait: bool = True) -> Submission:
        agent = self.running.service.runtimes.catalog.agents["assistant"]
        submitted = TaskSubmitted(tenant="acme", submitted_by="acme", task="go", request_id=request_id)
        submitted.MergeFrom(agent.admitted)
        set_nanos(submitted.deadline, int((time.time() + 60) * 1e9))
        return await self.dispatcher.submit(task_id, submitted, agent.runtime, may_wait=may_wait)

    async def settled(self, task_id: str = "t") -> Task:
        async with asyncio.timeout(PATIENCE_S):
            return (await self.running.service.watcher.settled(task_id)).task


@asynccontextmanager
async def world(make: Make, parts: Parts | None = None) -> AsyncIterator[World]:
    parts = parts or Parts()
    parts.timing, parts.store = NEVER, parts.store or FakeStore()
    async with started(parts) as running:
        yield World(running, make(running))


@ANY_ADAPTER
@pytest.mark.parametrize("may_wait", [True, False])
async def test_a_submitted_task_is_stored_and_driven_to_its_end(make: Make, may_wait: bool) -> None:
    async with world(make) as this:
        submission = await this.submit(may_wait=may_wait)
        assert submission.folded.task.id == "t"
        assert (await this.running.journal("t"))[0] == "submitted"
        assert (await this.settled()).state == TASK_STATE_COMPLETED


@ANY_ADAPTER
async def test_a_refused_task_is_not_stored_and_not_driven(make: Make) -> None:
    async with world(make) as this:
        await this.submit("first", request_id="r")
        with pytest.raises(RequestIdTakenError):
            await this.submit("second", request_id="r")
        await this.settled("first")
        assert await this.running.journal("second") == []
        await until(lambda: this.dispatcher.find("second") is None)


@ANY_ADAPTER
async def test_a_store_that_is_away_refuses_a_task(make: Make) -> None:
    store = FakeStore()
    async with world(make, Parts(store=store)) as this:
        store.failures = 1
        with pytest.raises(OverloadedError):
            await this.submit()
        assert await this.running.journal("t") == []


@ANY_ADAPTER
async def test_a_task_that_runs_is_found_here_or_nowhere(make: Make) -> None:
    gate = Gate()
    async with world(make, Parts(model=FakeModel(gate.step))) as this:
        await this.submit()
        await gate.holds()
        found = this.dispatcher.find("t")
        assert found is None or found.task_id == "t"
        gate.open()
        assert (await this.settled()).state == TASK_STATE_COMPLETED


@ANY_ADAPTER
async def test_a_task_that_runs_is_canceled(make: Make) -> None:
    gate = Gate()
    async with world(make, Parts(model=FakeModel(gate.step))) as this:
        await this.submit()
        await gate.holds()
        await this.dispatcher.cancel("t", CANCEL_CAUSE_USER, "key")
        task = await this.settled()
        assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_USER)
        arms = await this.running.journal("t")
        assert arms.count("cancel_requested") == 1


@ANY_ADAPTER
async def test_a_task_is_canceled_only_if_the_condition_holds(make: Make) -> None:
    gate = Gate()
    async with world(make, Parts(model=FakeModel(gate.step))) as this:
        await this.submit()
        await gate.holds()
        await this.dispatcher.cancel("t", CANCEL_CAUSE_USER, only_if=lambda folded: folded.is_waiting)
        gate.open()
        assert (await this.settled()).state == TASK_STATE_COMPLETED


@ANY_ADAPTER
async def test_a_task_that_has_ended_or_never_was_is_not_canceled(make: Make) -> None:
    async with world(make) as this:
        await this.submit()
        await this.settled()
        await this.dispatcher.cancel("t", CANCEL_CAUSE_USER)
        await this.dispatcher.cancel("never", CANCEL_CAUSE_USER)
        assert (await this.settled()).state == TASK_STATE_COMPLETED
        assert await this.running.journal("never") == []


@tool(side_effect="side_effecting")
async def pay() -> str:
    """Pay."""
    return "paid"


def asking() -> Parts:
    return Parts(model=FakeModel(calls(("pay", {})), says("done")), tools=[pay], needs_approval=["pay"])


@ANY_ADAPTER
async def test_a_task_that_was_answered_goes_on(make: Make) -> None:
    async with world(make, asking()) as this:
        await this.submit()
        assert (await this.settled()).state == TASK_STATE_INPUT_REQUIRED
        await until(lambda: this.dispatcher.find("t") is None)
        folded = await read_folded(this.running.store, "t")
        assert await this.running.service.idle.append(folded, received(folded, "input_1", approve(), "acme"))
        this.dispatcher.resume(folded)
        assert (await this.settled()).state == TASK_STATE_COMPLETED


@ANY_ADAPTER
async def test_a_task_that_waits_for_input_is_canceled_at_once(make: Make) -> None:
    async with world(make, asking()) as this:
        await this.submit()
        await this.settled()
        await this.dispatcher.cancel("t", CANCEL_CAUSE_USER)
        assert (await this.running.journal("t"))[-2:] == ["cancel_requested", "canceled"]


@ANY_ADAPTER
async def test_a_drain_releases_what_runs_for_other_processes(make: Make) -> None:
    gate = Gate()
    async with world(make, Parts(model=FakeModel(gate.step))) as this:
        await this.submit()
        await gate.holds()
        await this.dispatcher.drain(0.0)
        last = (await this.running.store.read("t"))[-1]
        assert last.attempt_ended.cause == ATTEMPT_END_CAUSE_DRAIN
        assert this.dispatcher.find("t") is None

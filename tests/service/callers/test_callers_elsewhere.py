"""Callers of one task at several processes of one store: the process that drives it decides, by those it knows."""

from __future__ import annotations

import asyncio

from agent_service.engine.timing import Timing
from agent_service.service.service import ServiceOptions
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, started
from tests.service.worlds import Gate, request, stub, until

SOON = Timing(heartbeat=0.01, adopt=0.01, publish_callers=0.01, follow=0.005, comeback=0.05)


def parts(gate: Gate) -> Parts:
    return Parts(
        timing=SOON, model=FakeModel(gate.step), store=FakeStore(), options=ServiceOptions(reattach_grace_s=0.02)
    )


async def test_a_repetition_that_goes_away_elsewhere_leaves_the_task_to_the_caller_where_it_runs() -> None:
    gate = Gate()
    both = parts(gate)
    async with started(both) as here, started(both) as there:
        stays = asyncio.ensure_future(here.client.run("go", request_id="r1"))
        await gate.holds()
        async with stub(there) as (methods, metadata):
            attached = methods.RunTask(request(request_id="r1"), metadata=metadata)
            await until(lambda: len(there.service.callers._counts) == 1)
            attached.cancel()
            await until(lambda: not there.service.callers._counts)
        await until(lambda: not there.service.callers._timers and not there.service.abandonment.pending)
        await asyncio.sleep(0.1)  # many looks of the one at what the other wrote
        gate.open()
        assert (await stays).state == TASK_STATE_COMPLETED


async def test_a_task_that_another_process_begins_for_the_first_time_is_not_missing_its_caller() -> None:
    """It stood behind others of its session where it was accepted, and its caller still waits there."""
    before, after, never = Gate(), Gate(), Gate()
    store = FakeStore()
    async with started(Parts(timing=SOON, model=FakeModel(before.step, after.step), store=store)) as here:
        first = asyncio.ensure_future(here.client.run("a", session_id="s"))
        await before.holds()
        # Started only now: it must not begin the first task.
        async with started(Parts(timing=SOON, model=FakeModel(never.step), store=store)) as there:
            second = asyncio.ensure_future(there.client.run("b", session_id="s"))
            await until(lambda: len(there.service.callers._counts) == 1)
            await there.service.dispatcher.stop()  # as good as having no room
            before.open()
            await after.holds()
            await asyncio.sleep(0.2)  # four times as long as a caller that was cut off may take
            after.open()
            assert {(await call).state for call in (first, second)} == {TASK_STATE_COMPLETED}
            assert not never.asked

"""The system's clock may be set at any time: no deadline, no expiry and no wait follows it."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent_service.client import approve
from agent_service.clock import SLEW, SteadyClock
from agent_service.engine.timing import Timing
from agent_service.service.service import ServiceOptions
from agent_service.tools.decorator import tool
from agent_service.v1.error_reason_pb2 import ERROR_REASON_DEADLINE_EXCEEDED
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_INPUT_REQUIRED, TASK_STATE_SUBMITTED
from tests.fakes.store import FakeStore
from tests.harness import SOON_S, FakeModel, Parts, Running, calls, says, started
from tests.service.worlds import Gate, until

OFTEN = Timing(adopt=0.005, deadline=0.005, erase=0.005)
STEPS_S = [3600.0, -3600.0]


def set_clock(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    wall, wall_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: wall() + step_s)
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + int(step_s * 1e9))


@pytest.mark.parametrize("step_s", STEPS_S)
def test_spans_are_right_and_time_never_runs_back_though_the_clock_is_set(step_s: float) -> None:
    wall, elapsed = 1000.0, 0.0
    clock = SteadyClock(lambda: wall, lambda: elapsed)
    assert clock() == 1000.0
    wall += step_s
    assert clock() == 1000.0
    before = clock()
    for _ in range(100):
        wall, elapsed = wall + 1.0, elapsed + 1.0
        now = clock()
        assert 1.0 - SLEW <= now - before <= 1.0 + SLEW
        before = now
    for _ in range(int(3600 / SLEW)):
        wall, elapsed = wall + 1.0, elapsed + 1.0
        clock()
    assert clock() == wall


async def turns(running: Running, count: int = 20) -> None:
    """Wait for so many rounds of housekeeping."""
    sweep = running.service.sweeps["adopt"]
    rounds = sweep.rounds
    await until(lambda: sweep.rounds > rounds + count)


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_what_waits_for_its_turn_or_for_an_answer_keeps_its_time(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    @tool(side_effect="side_effecting")
    def pay() -> str:
        """Pays."""
        return "paid"

    gate = Gate()
    model = FakeModel(calls(("pay", {})), gate.step)
    parts = Parts(timing=OFTEN, model=model, tools=[pay], needs_approval=["pay"], running_max=1, input_timeout_s=1800.0)
    async with started(parts) as running:
        waits = await running.client.run("pay", timeout_s=60)
        runs = await running.client.submit("in the way", timeout_s=60)
        await gate.holds()
        queued = await running.client.submit("later", timeout_s=60)
        set_clock(monkeypatch, step_s)
        await turns(running)
        states = [(await running.client.get_task(task.id)).state for task in (waits, queued)]
        assert states == [TASK_STATE_INPUT_REQUIRED, TASK_STATE_SUBMITTED]
        await running.client.resume(waits.id, "input_1", approve())
        await turns(running)
        gate.open()
        await running.is_quiet()
        for task in (waits, runs, queued):
            assert (await running.client.get_task(task.id)).state == TASK_STATE_COMPLETED


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_a_deadline_comes_when_it_should(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    gate = Gate()
    async with started(Parts(timing=OFTEN, model=FakeModel(gate.step), running_max=1)) as running:
        await running.client.submit("in the way", timeout_s=60)
        await gate.holds()
        queued = await running.client.submit("later", timeout_s=1)
        set_clock(monkeypatch, step_s)
        began = time.monotonic()
        async with asyncio.timeout(2 * SOON_S):
            async for _ in running.client.watch(queued.id):
                pass
        task = await running.client.get_task(queued.id)
        assert task.failure.reason == ERROR_REASON_DEADLINE_EXCEEDED
        assert 0.5 < time.monotonic() - began < SOON_S
        assert task.update_time.seconds - task.create_time.seconds <= SOON_S
        gate.open()


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_a_task_that_goes_on_elsewhere_has_the_time_that_it_has_left(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    gate, store = Gate(), FakeStore()
    async with started(Parts(timing=OFTEN, model=FakeModel(says("done")), store=store)) as there:
        async with started(Parts(timing=OFTEN, model=FakeModel(gate.step), store=store)) as here:
            task = await here.client.submit("go", timeout_s=60)
            await gate.holds()
            set_clock(monkeypatch, step_s)
            await here.service.drain(0)
        await until(lambda: store._journals[task.id].is_over)
        assert (await there.client.get_task(task.id)).output == "done"


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_nothing_is_erased_and_no_request_id_forgotten_before_its_time(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    async with started(Parts(timing=OFTEN, options=ServiceOptions(retention_s=1800.0))) as running:
        task = await running.client.run("go", request_id="r")
        set_clock(monkeypatch, 24 * step_s)
        await turns(running)
        assert (await running.client.run("go", request_id="r")).id == task.id

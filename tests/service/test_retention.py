"""Finished tasks are kept for as long as was configured, and then forgotten with all that they did."""

from __future__ import annotations

import asyncio

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.engine.sweeps import retention
from agent_service.engine.timing import Timing
from agent_service.service.service import ServiceOptions
from agent_service.tools.decorator import tool
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_INPUT_REQUIRED
from tests.harness import FakeModel, Parts, Running, calls, says, started

OFTEN = Timing(erase=0.02)


@tool(side_effect="side_effecting")
def pay() -> str:
    """Pays."""
    return "paid"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ERASED_AT_ONCE", 3)
    monkeypatch.setattr(retention, "ERASE_PAUSE_S", 0.001)


async def only_unfinished(client: AsyncClient) -> None:
    """Wait until no finished task is listed any more."""
    async with asyncio.timeout(20):
        while any(task.state == TASK_STATE_COMPLETED for task in (await client.list_tasks()).tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_old_finished_tasks_go_with_their_ledger_and_request_ids_and_unfinished_ones_stay() -> None:
    model = FakeModel(*([says("hello")] * 8), calls(("pay", {})), says("done"))
    options = ServiceOptions(retention_s=0.2)
    async with started(
        Parts(timing=OFTEN, model=model, tools=[pay], needs_approval=["pay"], options=options)
    ) as running:
        client = running.client
        over = [await client.run("go", request_id=f"r{number}", labels={"a": "b"}) for number in range(8)]
        waits = await client.run("pay", request_id="waits")
        await only_unfinished(client)
        for task in over:
            assert await running.store.read(task.id) == []
            with pytest.raises(CallError, match="TASK_NOT_FOUND"):
                await client.get_task(task.id)
        assert [task.id for task in (await client.list_tasks()).tasks] == [waits.id]
        assert (await client.get_task(waits.id)).state == TASK_STATE_INPUT_REQUIRED
        # What is forgotten may be asked for anew.
        assert (await client.run("go", request_id="r0")).id not in {task.id for task in over}


async def tasks_left(running: Running) -> int:
    return len((await running.client.list_tasks()).tasks)


@pytest.mark.parametrize("retention_s", [0.0, 3600.0])
async def test_what_is_not_that_old_stays(retention_s: float) -> None:
    async with started(Parts(timing=OFTEN, options=ServiceOptions(retention_s=retention_s))) as running:
        for _ in range(4):
            await running.client.run("go")
        await asyncio.sleep(0.2)  # many rounds of the sweeps
        assert await tasks_left(running) == 4

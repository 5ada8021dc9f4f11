"""After its deadline an attempt that hangs while it cleans up is still ended, by the next reason to stop it."""

from __future__ import annotations

import asyncio

import pytest

from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import CANCEL_CAUSE_USER, TASK_STATE_FAILED
from tests.harness import SOON_S, FakeModel, Parts, started


class Stubborn:
    """A model that never answers, and whose clean-up only a second cancellation ends."""

    def __init__(self) -> None:
        self.asked, self.cleans_up = asyncio.Event(), asyncio.Event()

    async def __call__(self, _: ModelRequest, __: ModelObserver) -> ModelReply:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cleans_up.set()
            await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("by", ["cancel", "release"])
async def test_an_attempt_that_hangs_after_its_deadline_is_interrupted_again(by: str) -> None:
    model = Stubborn()
    async with started(Parts(model=FakeModel(model))) as running:
        calling = asyncio.create_task(running.client.run("go"))
        await model.asked.wait()
        (one,) = running.runner.running.values()
        one.stop.time_out()
        await model.cleans_up.wait()
        if by == "cancel":
            one.stop.cancel(CANCEL_CAUSE_USER)
        else:
            one.stop.release()
        task = await asyncio.wait_for(calling, SOON_S)
        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_DEADLINE_EXCEEDED)

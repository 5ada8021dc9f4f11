"""What tasks do where a limit on model calls or tokens is full."""

from __future__ import annotations

import asyncio

import pytest

from agent_service.limits.base import Rule
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.v1.error_reason_pb2 import ERROR_REASON_RATE_LIMITED_TOKENS
from agent_service.v1.task_pb2 import TASK_STATE_CANCELED, TASK_STATE_COMPLETED, TASK_STATE_FAILED, Task
from tests.harness import FakeModel, Parts, Running, reply, started

# What leaves a window leaves it long after these tests: room comes from what others did not use.
ONE_AT_A_TIME = Rule("default", tokens_max=210, window_s=200)
TIMEOUT_S = 300.0


class Turnstile:
    """A model whose replies the test lets out one by one, and the tasks that got as far, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._asking = asyncio.Semaphore(0)
        self._replies = asyncio.Semaphore(0)

    @property
    def model(self) -> FakeModel:
        return FakeModel(self._step)

    async def asking(self) -> None:
        """Wait until one more has asked."""
        await self._asking.acquire()

    def reply(self) -> None:
        self._replies.release()

    async def _step(self, request: ModelRequest, _: ModelObserver) -> ModelReply:
        self.asked.append(request.messages[-1].text)
        self._asking.release()
        await self._replies.acquire()
        return reply("ok")


async def begun(running: Running, text: str) -> Task:
    """A task that stands where it waits for its model call."""
    task = await running.client.submit(text)
    while not (await running.client.get_task(task.id)).attempt:
        """It has not been begun."""
    return task


async def ended(running: Running, task: Task) -> Task:
    async for _ in running.client.watch(task.id):
        pass
    return await running.client.get_task(task.id)


async def test_tasks_that_wait_for_tokens_ask_their_model_in_the_order_of_arrival() -> None:
    stile = Turnstile()
    async with started(Parts(model=stile.model, rules=[ONE_AT_A_TIME], timeout_s=TIMEOUT_S)) as running:
        tasks = [await begun(running, "first")]
        await stile.asking()
        big = "the second one asks for so many tokens that it does not fit beside another one however small that is"
        tasks += [await begun(running, text) for text in (big, "third", "fourth")]
        for _ in tasks[1:]:
            assert len(stile.asked) + 1 <= len(tasks)
            stile.reply()
            await stile.asking()
        stile.reply()
        assert [(await ended(running, task)).state for task in tasks] == [TASK_STATE_COMPLETED] * 4
        assert stile.asked == ["first", big, "third", "fourth"]


async def test_a_task_that_is_canceled_while_it_waits_makes_way_and_has_used_nothing() -> None:
    stile = Turnstile()
    async with started(Parts(model=stile.model, rules=[ONE_AT_A_TIME], timeout_s=TIMEOUT_S)) as running:
        first = await begun(running, "first")
        await stile.asking()
        second, third = await begun(running, "second"), await begun(running, "third")
        await running.client.cancel(second.id)
        assert (await ended(running, second)).state == TASK_STATE_CANCELED
        assert "model_started" not in await running.journal(second.id)
        stile.reply()
        await stile.asking()
        stile.reply()
        assert {(await ended(running, task)).state for task in (first, third)} == {TASK_STATE_COMPLETED}


async def test_a_task_that_cannot_have_its_tokens_in_time_fails_at_once_with_the_name_of_the_rule() -> None:
    stile = Turnstile()
    async with started(Parts(model=stile.model, rules=[ONE_AT_A_TIME], timeout_s=100.0)) as running:
        first = await begun(running, "first")
        await stile.asking()
        async with asyncio.timeout(30):
            failed = await running.client.run("second")
        assert (failed.state, failed.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_RATE_LIMITED_TOKENS)
        assert "rule default" in failed.failure.message
        stile.reply()
        await ended(running, first)


@pytest.mark.parametrize("waits", [True, False], ids=["wait", "fail"])
async def test_an_agent_may_fail_where_others_wait(waits: bool) -> None:
    stile = Turnstile()
    parts = Parts(model=stile.model, rules=[ONE_AT_A_TIME], timeout_s=TIMEOUT_S, waits_for_limits=waits)
    async with started(parts) as running:
        first = await begun(running, "first")
        await stile.asking()
        second = await begun(running, "second")
        if waits:
            stile.reply()
            await stile.asking()
        stile.reply()
        told = await ended(running, second)
        assert told.state == (TASK_STATE_COMPLETED if waits else TASK_STATE_FAILED)
        assert told.failure.reason == (0 if waits else ERROR_REASON_RATE_LIMITED_TOKENS)
        await ended(running, first)

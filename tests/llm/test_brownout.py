"""A brown-out: for a while half of a provider's answers are 503, with tasks under way before it, in it and after it.

`make test-brownout` takes a real minute for it, with 200 tasks and the product's own numbers. Here time runs 30 times
as fast, for fewer tasks: everything that is a wait is shorter, and everything that is a count stays as it is.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from agent_service.config.model_parts import Retry
from agent_service.errors import reason_name
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest
from agent_service.llm.breaker import Breaking, CircuitBreaker
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.v1.task_event_pb2 import TaskEvent, TaskLimits
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, Task
from tests.fakes.provider import Exchange, FakeProvider, finish, status, stream, text, tool_call, usage
from tests.harness import Parts, Running, started
from tests.llm.conftest import MakeModel

BROWNOUT_S = float(os.environ.get("BROWNOUT_S", "2"))
SPEED = 60 / BROWNOUT_S
TASKS = 200 if SPEED == 1 else 50

# Of the peak afterwards: at 30 times the speed a busy machine lumps what a second holds.
WINDOW_S = 1.0 if SPEED == 1 else 5.0

# In seconds of a world whose brown-out takes a minute.
ANSWER_S = 5.0
TURNS = 4
WELL_BEFORE_S = 15.0
ENDS_S = WELL_BEFORE_S + 60.0


def now() -> float:
    return time.monotonic() * SPEED


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / SPEED)


@dataclass
class Brownout:
    """The provider's side: answers a task's turns one after the other, each after ANSWER_S, and half of them not at all
    while it lasts.
    """

    began_at: float = field(default_factory=now)
    requests: list[float] = field(default_factory=list)
    refused: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(5))

    async def __call__(self, exchange: Exchange) -> None:
        at = now() - self.began_at
        self.requests.append(at)
        if WELL_BEFORE_S <= at < ENDS_S and self._chance.random() < 0.5:
            self.refused += 1
            await status(503)(exchange)
            return
        await sleep(ANSWER_S)
        turn = sum(message["role"] == "assistant" for message in exchange.request.body["messages"]) + 1
        asked = stream(tool_call(0, f"c{turn}", "echo", '{"text": "on"}'), finish("tool_calls"), usage())
        await (asked if turn < TURNS else stream(text("done"), finish(), usage()))(exchange)

    def came_after(self) -> list[float]:
        return [at for at in self.requests if at >= ENDS_S]


class Timeless:
    """A model whose deadline is far: those of tasks are told by another clock than this world's."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        return await self._model.generate(request._replace(deadline=None), observer)


def resilient(model: Model, *, breaks: bool) -> Model:
    """As the product puts it together for a model without fallbacks, in this world's time; with its breaker or without,
    so that the budget has to do all the work.
    """
    retry = Retry()
    retrying = Retrying(
        model,
        "fake",
        RetryBudget(),
        attempts=retry.attempts,
        base_delay_s=retry.base_delay_s,
        max_delay_s=retry.max_delay_s,
        patience_s=retry.circuit_patience_s,
        sleep=sleep,
        clock=now,
    )
    return Timeless(Breaking(retrying, CircuitBreaker(clock=now)) if breaks else retrying)


async def run_all(running: Running) -> list[Task]:
    """Tasks that begin one after the other, until the brown-out ends."""

    async def run(number: int) -> Task:
        await sleep(ENDS_S * number / TASKS)
        return await running.client.run("go on")

    return list(await asyncio.gather(*map(run, range(TASKS))))


async def journals(running: Running, tasks: list[Task]) -> list[TaskEvent]:
    return [event for task in tasks for event in await running.store.read(task.id)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("breaks", [True, False], ids=["with the breaker", "without it"])
async def test_a_brownout_costs_the_provider_no_more_than_the_retry_budget_and_ends_without_a_storm(
    provider: FakeProvider, make_model: MakeModel, *, breaks: bool
) -> None:
    model = make_model()
    await model.check()  # building its client takes longer here than an answer
    brownout = Brownout()
    provider.will(*[brownout] * (TASKS * TURNS * 4))
    parts = Parts(
        model=resilient(model, breaks=breaks),
        tools=BUILTIN_TOOLS,
        limits=TaskLimits(turns=TURNS, tool_calls=TURNS, parallel_tools=1),
        timeout_s=3600.0,
    )
    async with started(parts) as running:
        tasks = await run_all(running)
        events = await journals(running, tasks)

    tries = [event.model_started for event in events if event.HasField("model_started")]
    failed = sum(event.HasField("model_failed") for event in events)
    replies = sum(event.HasField("model_replied") for event in events)
    retries = sum(one.try_number > 1 for one in tries)
    given_up = [task.failure for task in tasks if task.state != TASK_STATE_COMPLETED]
    after = Counter(int(at / WINDOW_S) for at in brownout.came_after())
    peak = max(after.values(), default=0) / WINDOW_S
    sys.stdout.write(
        f"\n{TASKS} tasks of {TURNS} turns, {TASKS - len(given_up)} completed; {len(tries)} requests, {failed} refused,"
        f" {retries} retries; after it at most {peak:g} requests a second\n"
    )

    # Every request that reached the provider is in a journal, and the other way round.
    assert len(tries) == len(brownout.requests) == failed + replies
    assert failed == brownout.refused > 0
    # The budget's own arithmetic: it holds 500, a retry takes 14, a reply puts 1 back.
    assert 0 < retries * RetryBudget.COST <= RetryBudget.CAPACITY + RetryBudget.GAIN * replies
    # No storm: those who waited do not ask more than twice as fast as so many tasks do when all is well.
    assert peak <= 2 * TASKS / ANSWER_S
    # Tasks outlive it, and the others say that what failed them may pass.
    assert len(given_up) < TASKS
    assert {reason_name(failure.reason) for failure in given_up} <= {"LLM_UNAVAILABLE"}
    assert all(failure.retryable for failure in given_up)

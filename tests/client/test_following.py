"""How long the client goes back to a server, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from agent_service.client import CallError
from agent_service.client import following as module
from agent_service.client.following import Patience, answered, followed
from agent_service.v1.task_event_pb2 import ModelStarted, ReasoningDelta, TaskEvent, TextDelta
from agent_service.v1.task_pb2 import Waiting
from tests.harness import FakeModel, Parts, started
from tests.service.worlds import Gate

GONE = CallError("UNAVAILABLE", "Socket closed")
GONE_FROM_A_TASK = CallError("UNAVAILABLE", "Socket closed", task_id="t")
FULL = CallError("RESOURCE_EXHAUSTED", "full", reason="RATE_LIMITED_CALLS", retry_after_s=3.0)


class Clock:
    """Time that passes where somebody sleeps, and where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "_sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def patience(self, seconds: float) -> Patience:
        return Patience(seconds, lambda: True, now=lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def server(clock: Clock, *lives: tuple[float, CallError | str]) -> Callable[[], Awaitable[str]]:
    """A call that takes so many seconds and then fails, or is answered; the last one again and again."""
    left = list(lives)

    async def call() -> str:
        seconds, outcome = left.pop(0) if len(left) > 1 else left[0]
        clock.now += seconds
        if isinstance(outcome, CallError):
            raise outcome
        return outcome

    return call


async def test_a_call_that_was_answered_for_longer_than_its_patience_is_still_taken_up(clock: Clock) -> None:
    call = server(clock, (600, GONE_FROM_A_TASK), (0, GONE), (600, GONE_FROM_A_TASK), (5, "done"))
    assert await answered(call, clock.patience(10)) == "done"


async def test_a_call_that_arrives_while_the_server_stops_is_taken_up(clock: Clock) -> None:
    call = server(clock, (0, CallError("CANCELLED", "CANCELLED")), (0, "done"))
    assert await answered(call, clock.patience(10)) == "done"


async def test_a_server_that_stays_away_is_given_up_when_patience_ends(clock: Clock) -> None:
    began = clock.now
    with pytest.raises(CallError) as given_up:
        await answered(server(clock, (0, GONE)), clock.patience(10))
    assert given_up.value is GONE
    assert 10 <= clock.now - began < 11.1


async def test_without_patience_the_first_error_is_the_last(clock: Clock) -> None:
    with pytest.raises(CallError):
        await answered(server(clock, (0, GONE), (0, "done")), clock.patience(0))


async def test_a_refusal_of_new_work_is_the_callers_to_wait_for(clock: Clock) -> None:
    with pytest.raises(CallError) as refused:
        await answered(server(clock, (0, FULL), (0, "done")), clock.patience(60))
    assert refused.value.retry_after_s == 3.0


async def test_the_way_back_to_an_accepted_task_waits_for_room(clock: Clock) -> None:
    began = clock.now
    call = server(clock, (0, GONE_FROM_A_TASK), (0, FULL), (0, "done"))
    assert await answered(call, clock.patience(60)) == "done"
    assert clock.now - began >= 3


async def test_it_does_not_wait_for_room_that_comes_after_its_patience(clock: Clock) -> None:
    began = clock.now
    with pytest.raises(CallError) as refused:
        await answered(server(clock, (0, GONE_FROM_A_TASK), (0, FULL)), clock.patience(2))
    assert refused.value is FULL
    assert clock.now - began < 1


async def test_an_error_names_the_task_that_was_accepted_before_it() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), drain_grace_s=0)) as running:
        call = asyncio.ensure_future(running.client.run("go"))
        await gate.holds()
        (task,) = (await running.client.list_tasks()).tasks
        draining = asyncio.ensure_future(running.server.drain())
        with pytest.raises(CallError) as ended:
            await call
        assert (ended.value.reason, ended.value.task_id) == ("DRAINING", task.id)
        await draining


@pytest.mark.parametrize(
    "live",
    [{"text_delta": TextDelta(text="x")}, {"reasoning_delta": ReasoningDelta(text="x")}, {"waiting": Waiting()}],
)
async def test_live_pieces_pass_though_they_are_behind_no_new_number(clock: Clock, live: dict[str, Any]) -> None:
    opened: list[int] = []

    async def stream(after: int) -> AsyncGenerator[TaskEvent]:
        opened.append(after)
        yield TaskEvent(sequence=1, model_started=ModelStarted())
        yield TaskEvent(sequence=1, **live)
        if len(opened) == 1:
            raise GONE
        yield TaskEvent(sequence=2, model_started=ModelStarted())

    seen = [event.WhichOneof("event") async for event in followed(stream, 0, clock.patience(10))]
    assert seen == ["model_started", *live, *live, "model_started"]
    assert opened == [0, 1]

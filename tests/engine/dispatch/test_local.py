"""What the queue of a process costs tasks that never wait in it."""

from __future__ import annotations

import asyncio

import pytest

from agent_service.engine.dispatch.fair_queue import FairQueue
from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.harness import FakeModel, Parts, started
from tests.service.worlds import Gate, until


def record(monkeypatch: pytest.MonkeyPatch, part: type, calls: list[str]) -> None:
    """Record each call of the part's methods."""
    for name, method in list(vars(part).items()):
        if callable(method) and not name.startswith("_"):

            def recorded(self: object, *args: object, method=method, name=name) -> object:  # type: ignore[no-untyped-def]
                calls.append(f"{part.__name__}.{name}")
                return method(self, *args)

            monkeypatch.setattr(part, name, recorded)


async def test_a_task_that_is_begun_at_once_goes_through_no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    async with started(Parts()) as running:
        record(monkeypatch, FairQueue, calls)
        record(monkeypatch, Quarantine, calls)
        await running.client.run("hi")
        await until(lambda: not running.runner.running)
        assert calls == []


async def test_its_end_begins_the_next_one_in_line() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), running_max=1)) as running:
        first = asyncio.ensure_future(running.client.run("at once"))
        await gate.holds()
        waiting = await running.client.submit("in line")
        assert running.service.line.task_ids == {waiting.id}
        gate.open()
        await first
        await running.is_quiet()
        assert (await running.client.get_task(waiting.id)).state == TASK_STATE_COMPLETED

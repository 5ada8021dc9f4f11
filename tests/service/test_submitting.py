"""SubmitTask answers as soon as the task is stored, with what is stored."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent_service.client import CallError
from agent_service.store.base import Appended
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_WORKING
from tests.fakes.crashes import left_by_a_crash
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, started
from tests.service.worlds import Gate, request, stub


class HeldAfter(FakeStore):
    """Stores so many appends and holds those that follow."""

    def __init__(self, appends: int) -> None:
        super().__init__()
        self._appends = appends

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        appended = await super().append(events, attempt=attempt, after=after)
        self._appends -= 1
        if not self._appends:
            self.hold()
        return appended


async def test_it_answers_before_the_task_has_ended_and_names_it_in_the_headers_too() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running, stub(running) as (methods, metadata):
        call = methods.SubmitTask(pb.SubmitTaskRequest(run=request()), metadata=metadata)
        headers = dict(await call.initial_metadata())
        task = (await call).task
        assert headers["x-task-id"] == task.id
        await gate.holds()
        assert (await running.client.get_task(task.id)).state == TASK_STATE_WORKING
        gate.open()
        await running.is_quiet()
        assert (await running.client.get_task(task.id)).state == TASK_STATE_COMPLETED


async def test_nothing_is_told_that_is_not_stored_however_far_the_task_is() -> None:
    store = HeldAfter(1)
    async with started(Parts(store=store)) as running:
        task = await running.client.submit("go")
        assert (task.state, task.output, task.last_sequence) == (TASK_STATE_WORKING, "", 3)
        assert await running.journal(task.id) == ["submitted", "attempt_started", "model_started"]
        (listed,) = (await running.client.list_tasks(full=True)).tasks
        assert (listed.state, listed.output) == (TASK_STATE_WORKING, "")
        store.release()


async def test_a_store_that_is_full_refuses_and_keeps_nothing() -> None:
    store = FakeStore()
    async with started(Parts(store=store)) as running:
        store.failures = 1
        with pytest.raises(CallError) as refused:
            await running.client.submit("go")
        assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert not (await running.client.list_tasks()).tasks


async def test_what_was_accepted_goes_on_after_a_crash_with_nobody_there() -> None:
    async def submit(running: Running) -> object:
        return await running.client.submit("go")

    task_id, left = await left_by_a_crash(Parts(model=FakeModel(Gate().step)), submit, "submitted")
    async with started(Parts(store=left)) as running:
        await running.is_quiet()
        assert (await running.client.get_task(task_id)).output == "hello"


async def test_a_request_without_a_task_in_it_is_refused_by_its_field() -> None:
    async with started() as running, stub(running) as (methods, metadata):
        with pytest.raises(Exception, match="run"):
            await methods.SubmitTask(pb.SubmitTaskRequest(), metadata=metadata)

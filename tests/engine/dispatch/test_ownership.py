"""No task is WORKING that nobody drives; a process that lost a task stops at once; a living one loses none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError

from agent_service.agents.base import Action, AgentState, AskModel, Complete, RequireInput
from agent_service.client import approve
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.sweeps import deadlines, housekeeping
from agent_service.engine.timing import Timing
from agent_service.errors import InternalError, OverloadedError
from agent_service.limits.base import Rule
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.store.base import Appended
from agent_service.tools.decorator import tool
from agent_service.v1.error_reason_pb2 import (
    ERROR_REASON_DEADLINE_EXCEEDED,
    ERROR_REASON_INTERNAL,
    ERROR_REASON_OUTPUT_INVALID,
    ERROR_REASON_STORE_UNAVAILABLE,
)
from agent_service.v1.task_event_pb2 import AttemptStarted, CancelRequested, TaskCompleted, TaskEvent, TaskSubmitted
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_USER,
    ON_DISCONNECT_DETACH,
    TASK_KIND_AGENT,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    Task,
)
from tests.fakes.store import FakeStore
from tests.harness import SOON_S, FakeModel, Parts, Running, calls, says, started
from tests.service.worlds import Gate, until

OFTEN = Timing(heartbeat=0.005, adopt=0.005, follow=0.005, deadline=0.005, store_retry=0.0)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def submitted(task_id: str, *, left_s: float = 60.0) -> TaskEvent:
    """A task that some process accepted."""
    first = TaskSubmitted(kind=TASK_KIND_AGENT, tenant="acme", agent="assistant", model="fake", task="go")
    first.submitted_by, first.on_disconnect, first.limits.turns = "acme", ON_DISCONNECT_DETACH, 5
    event = TaskEvent(task_id=task_id, submitted=first)
    event.create_time.GetCurrentTime()
    event.submitted.deadline.FromNanoseconds(event.create_time.ToNanoseconds() + int(left_s * 1e9))
    return event


def claim(task_id: str, attempt: int, worker: str = "thief") -> TaskEvent:
    event = TaskEvent(task_id=task_id, attempt=attempt, attempt_started=AttemptStarted(worker=worker))
    event.create_time.GetCurrentTime()
    return event


async def settled(running: Running, task_id: str) -> Task:
    """The task once it has ended."""
    async with asyncio.timeout(20):
        async for _ in running.client.watch(task_id):
            pass
    return await running.client.get_task(task_id)


def logged(running: Running, event: str) -> bool:
    return any(line["event"] == event for line in running.log)


class Faulty(FakeStore):
    """A store that does not take some event, for a reason of its own, so many times."""

    def __init__(self, arm: str, times: int) -> None:
        super().__init__()
        self._arm, self._times = arm, times

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        if self._times and any(event.WhichOneof("event") == self._arm for event in events):
            self._times -= 1
            raise InternalError
        return await super().append(events, attempt=attempt, after=after)


@pytest.mark.parametrize("arm", ["model_replied", "completed"])
async def test_a_task_whose_drive_ended_without_an_end_is_taken_up_again(arm: str) -> None:
    store = Faulty(arm, 1)
    async with started(Parts(timing=OFTEN, model=FakeModel(says("done")), store=store)) as running:
        task = await settled(running, (await running.client.submit("go")).id)
    assert (task.state, task.output, task.attempt) == (TASK_STATE_COMPLETED, "done", 2)


class Large:
    """An agent that says too much."""

    def __init__(self, action: Action) -> None:
        self._action = action

    def step(self, state: AgentState) -> Action:
        return AskModel(state.messages) if state.last_reply is None else self._action


async def test_an_answer_that_is_too_long_fails_its_task_and_says_so(store: FakeStore) -> None:
    async with started(Parts(timing=OFTEN, agent=Large(Complete("x" * 1024 * 1025)), store=store)) as running:
        task = await running.client.run("go")
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_OUTPUT_INVALID)
    assert "longer than 1048576 bytes" in task.failure.message


async def test_an_event_that_no_store_takes_fails_its_task_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("agent_service.engine.journal_writer", "agent_service.journal.append"):
        monkeypatch.setattr(f"{module}.EVENT_BYTES_MAX", 10_000)
    async with started(Parts(timing=OFTEN, agent=Large(RequireInput("x" * 20_000)))) as running:
        task = await running.client.run("go")
    assert (task.state, task.failure.reason, task.attempt) == (TASK_STATE_FAILED, ERROR_REASON_INTERNAL, 1)


async def test_many_queued_tasks_do_not_hide_what_a_dead_process_left(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "ADOPTED_AT_ONCE", 2)
    gate = Gate()
    for n in range(9):
        await store.append([submitted(f"q{n}")], attempt=0)
    async with started(Parts(timing=OFTEN, model=FakeModel(gate.step), store=store, running_max=2)) as running:
        await gate.holds(2)
        await store.append([submitted("orphan", left_s=0.1), claim("orphan", 1, "gone")], attempt=0)
        task = await settled(running, "orphan")
        assert task.failure.reason == ERROR_REASON_DEADLINE_EXCEEDED
        await store.append([submitted("late")], attempt=0)
        await until(lambda: running.service.queued == 8)
        gate.open()
        assert (await settled(running, "late")).state == TASK_STATE_COMPLETED


async def test_a_process_that_lost_a_task_stops_at_once_and_shows_what_is_stored(store: FakeStore) -> None:
    gate, stopped = Gate(), asyncio.Event()

    async def slow(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        try:
            return await gate.step(request, observer)
        finally:
            stopped.set()

    async with started(Parts(timing=OFTEN, model=FakeModel(slow), store=store)) as running:
        task_id = (await running.client.submit("go")).id
        await gate.holds()
        await store.heartbeat("thief")
        await store.append([claim(task_id, 2)], attempt=1)
        assert (await running.client.get_task(task_id)).attempt == 2
        async with asyncio.timeout(SOON_S):
            await stopped.wait()
        await until(lambda: not running.runner.running)
        assert logged(running, "attempt_fenced")
        done = TaskEvent(task_id=task_id, attempt=2, completed=TaskCompleted(output="elsewhere"))
        await store.append([done], attempt=2)
        assert (await settled(running, task_id)).output == "elsewhere"


async def test_a_process_takes_a_task_back_that_another_took_and_left(store: FakeStore) -> None:
    gate = Gate()
    async with started(Parts(timing=OFTEN, model=FakeModel(gate.step), store=store)) as running:
        task_id = (await running.client.submit("go")).id
        await gate.holds()
        # Its heartbeats are never seen here: the thief has gone before the next look.
        await store.append([claim(task_id, 2)], attempt=1)
        await gate.holds(2)
        gate.open()
        assert (await settled(running, task_id)).attempt == 3


async def test_a_task_that_another_process_does_not_end_in_time_is_ended_as_a_last_resort(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.store.memory.LAST_RESORT_US", 0)
    await store.heartbeat("idle")
    await store.append([submitted("t", left_s=0.1), claim("t", 1, "idle")], attempt=0)
    async with started(Parts(timing=OFTEN, store=store)) as running:
        task = await settled(running, "t")
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_DEADLINE_EXCEEDED)


async def test_a_resumed_task_whose_drive_does_not_end_it_is_ended_as_a_last_resort(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    @tool(side_effect="side_effecting")
    def pay() -> str:
        """Pays."""
        return "paid"

    parts = Parts(
        timing=OFTEN, model=FakeModel(calls(("pay", {})), gate.step), tools=[pay], needs_approval=["pay"], store=store
    )
    async with started(parts) as running:
        task_id = (await running.client.run("go", timeout_s=60)).id
        await running.client.resume(task_id, "input_1", approve())
        await gate.holds()
        # As if its deadline had passed long ago, and its drive had not noticed.
        monkeypatch.setattr(deadlines, "LAST_RESORT_US", -3_600_000_000)
        task = await settled(running, task_id)
        await until(lambda: not running.runner.running)
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_DEADLINE_EXCEEDED)


async def test_a_drive_whose_task_was_ended_by_another_process_stops(store: FakeStore) -> None:
    gate = Gate()
    async with started(Parts(timing=OFTEN, model=FakeModel(gate.step), store=store)) as running:
        task_id = (await running.client.submit("go")).id
        await gate.holds()
        await store.heartbeat("another")
        end = TaskEvent(task_id=task_id, attempt=1, completed=TaskCompleted(output="elsewhere"))
        await store.append([end], attempt=None)
        await until(lambda: not running.runner.running)
        assert (await running.client.get_task(task_id)).output == "elsewhere"


async def test_one_damaged_journal_does_not_keep_others_from_hearing_of_their_cancels(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, read = Gate(), store.read
    async with started(Parts(timing=OFTEN, model=FakeModel(gate.step), store=store)) as running:
        damaged, sound = [(await running.client.submit("go")).id for _ in range(2)]
        await gate.holds(2)

        async def fails(task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
            if task_id == damaged:
                raise DecodeError("damaged")
            return await read(task_id, after_sequence=after_sequence, limit=limit)

        monkeypatch.setattr(store, "read", fails)
        await store.heartbeat("another")
        for task_id in (damaged, sound):
            asked = CancelRequested(cause=CANCEL_CAUSE_USER, requested_by="another")
            await store.append([TaskEvent(task_id=task_id, attempt=1, cancel_requested=asked)], attempt=None)
        assert (await settled(running, sound)).state == TASK_STATE_CANCELED
        assert [line["task_id"] for line in running.log if line["event"] == "task_unreadable"] == [damaged]
        gate.open()


async def test_a_drain_ends_though_the_store_stalls_while_a_task_begins_to_wait(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.engine.dispatch.runner.CANCELS_MAX", 1)
    gate = Gate()
    async with started(
        Parts(
            timing=replace(OFTEN, release=0.02),
            model=FakeModel(gate.step),
            agent=Large(RequireInput("why?")),
            store=store,
        )
    ) as running:
        await running.client.submit("go")
        await gate.holds()
        await store.has("model_started")
        write = JournalWriter.write_unless_grown
        begun = asyncio.Event()

        async def held(self: JournalWriter, event: TaskEvent) -> bool:
            await self.sync()
            store.hold()
            begun.set()
            return await write(self, event)

        monkeypatch.setattr(JournalWriter, "write_unless_grown", held)
        gate.open()
        await begun.wait()
        await store.is_held()
        async with asyncio.timeout(SOON_S):
            await running.service.drain(0)
        assert not running.runner.running
        store.release()


async def test_a_drive_whose_journal_broke_while_it_waits_for_a_limit_frees_its_place(store: FakeStore) -> None:
    """Somebody else has the task: it waits for nothing any more."""
    rules = [Rule("one", model_calls_max=1, window_s=120)]
    model = FakeModel(calls(("look", {})), says("never"))

    @tool(side_effect="read_only")
    async def look() -> str:
        """Looks; meanwhile another process takes the task."""
        (task_id,) = running.runner.running
        await store.append([claim(task_id, 2)], attempt=1)
        return "seen"

    async with started(
        Parts(timing=OFTEN, model=model, tools=[look], rules=rules, store=store, timeout_s=600.0)
    ) as running:
        await store.heartbeat("thief")
        task_id = (await running.client.submit("go")).id
        await store.has("attempt_started", "attempt_started")
        await until(lambda: not running.runner.running)
        assert (await running.client.get_task(task_id)).attempt == 2


async def test_no_tool_of_an_adopted_task_runs_before_its_claim_is_stored(store: FakeStore) -> None:
    ran: list[bool] = []

    @tool(side_effect="read_only")
    async def look() -> str:
        """Looks."""
        ran.append(True)
        return "seen"

    parts = Parts(timing=OFTEN, model=FakeModel(says("done")), tools=[look], store=store)
    first = FakeModel(calls(("look", {})))
    async with started(Parts(timing=OFTEN, model=first, tools=[look], store=store, needs_approval=["look"])) as running:
        task_id = (await running.client.submit("go")).id
        await store.has("input_required")
    approved = TaskEvent(task_id=task_id, attempt=1)
    approved.input_received.input_id, approved.input_received.resumes = "input_1", True
    approved.input_received.answer.approve.SetInParent()
    approved.create_time.GetCurrentTime()
    await store.append([approved], attempt=None)
    store.hold()
    async with started(parts) as running:
        await store.is_held()
        await asyncio.sleep(0.05)
        assert ran == []
        # Somebody else was faster.
        store.release()
        assert (await settled(running, task_id)).state == TASK_STATE_COMPLETED
    assert ran == [True]


async def test_one_task_that_cannot_be_read_holds_up_neither_claims_nor_ends(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite tells a damaged page as it tells a store that is away."""
    read = store.read

    async def fails(task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        if task_id.startswith("damaged"):
            raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "the database disk image is malformed")
        return await read(task_id, after_sequence=after_sequence, limit=limit)

    monkeypatch.setattr(store, "read", fails)
    for name in ("damaged", "sound"):
        await store.append([submitted(f"{name} and late", left_s=-1)], attempt=0)
        await store.append([submitted(f"{name} and begun"), claim(f"{name} and begun", 1, "gone")], attempt=0)
        await store.append([submitted(f"{name} and queued")], attempt=0)
    async with started(Parts(timing=OFTEN, model=FakeModel(says("done")), store=store, running_max=1)):
        await store.has("failed")
        for which in ("begun", "queued"):
            await until(lambda which=which: store._journals[f"sound and {which}"].is_over)

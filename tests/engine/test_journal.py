"""What becomes of a task when its store fails, is slow, or has given the task to somebody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from agent_service.agents.base import Action, AgentState, Complete
from agent_service.client import CallError
from agent_service.engine.attempt.stop import Stop
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.task.state import FoldedTask
from agent_service.engine.timing import Timing
from agent_service.feed.memory import MemoryFeed
from agent_service.journal.refusals import AppendRefusedError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.store.base import Appended
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import (
    AttemptStarted,
    CancelRequested,
    ModelReplied,
    ModelStarted,
    TaskCompleted,
    TaskEvent,
    TaskSubmitted,
)
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_USER,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_WORKING,
    Task,
)
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, Step, calls, reply, says, started
from tests.store.events import unfinished

Call = Callable[[Running], Awaitable[object]]
AT_ONCE = Timing(store_retry=0.0)


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


async def hang(_: ModelRequest, __: ModelObserver) -> ModelReply:
    """Answers when the task is stopped, and so never."""
    await asyncio.Event().wait()
    raise AssertionError


class AtOnce:
    """Completes without asking a model: a task of one append."""

    def step(self, state: AgentState) -> Action:
        return Complete("done")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def pen_of(store: FakeStore) -> JournalWriter:
    folded = FoldedTask()
    return JournalWriter("t", folded, Stop(folded), store, MemoryFeed(), time.time, AT_ONCE)


def after(action: Callable[[], None], step: Step) -> Step:
    """A step of the model that does something to the world first."""

    async def acting(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        action()
        made: ModelReply = await step(request, observer)
        return made

    return acting


async def take_over(store: FakeStore, task_id: str) -> None:
    """What another process does that believes this one to be dead."""
    claim = TaskEvent(task_id=task_id, attempt=2, attempt_started=AttemptStarted(worker="another"))
    await store.heartbeat("another")
    await store.append([claim], attempt=1)


def other_says(task_id: str, text: str) -> TaskEvent:
    """The end that another process comes to."""
    return TaskEvent(task_id=task_id, attempt=2, completed=TaskCompleted(output=text))


async def stream_to_the_end(running: Running) -> None:
    async for _ in running.client.stream("hi"):
        pass


CALLS: list[Call] = [
    lambda running: running.client.run("hi"),
    stream_to_the_end,
    lambda running: running.client.invoke_tool("look"),
]


@pytest.mark.parametrize("failures", [1, 2, 5])
async def test_a_store_that_fails_in_mid_task_is_asked_again_until_it_works(store: FakeStore, failures: int) -> None:
    def fail() -> None:
        store.failures = failures

    model = FakeModel(after(fail, calls(("look", {}))), after(fail, says("hello")))
    async with started(Parts(timing=AT_ONCE, model=model, tools=[look], store=store)) as running:
        task = await running.client.run("hi")
        events = await store.read(task.id)

    assert task.state == TASK_STATE_COMPLETED
    assert len(store.refused) == 2 * failures
    assert [event.WhichOneof("event") for event in events] == [
        "submitted",
        "attempt_started",
        "model_started",
        "model_replied",
        "tool_started",
        "tool_finished",
        "model_started",
        "model_replied",
        "completed",
    ]
    assert [event.sequence for event in events] == list(range(1, 10))
    assert task.last_sequence == 9


async def test_what_was_written_while_the_store_failed_comes_after_what_it_failed_to_store(store: FakeStore) -> None:
    pen = pen_of(store)
    pen.write(TaskEvent(submitted=TaskSubmitted(tenant="acme", task="hi")))
    await pen.sync()
    store.hold()
    pen.write(TaskEvent(model_started=ModelStarted(turn=1)))
    pen.flush()
    await store.is_held()
    pen.write(TaskEvent(model_replied=ModelReplied(turn=1, text="hello")))
    store.failures = 1
    store.release()
    await pen.sync()

    assert [event.WhichOneof("event") for event in await store.read("t")] == [
        "submitted",
        "model_started",
        "model_replied",
    ]


async def test_all_appends_of_an_attempt_share_one_asyncio_task_that_ends_with_it(store: FakeStore) -> None:
    before = asyncio.all_tasks()
    pen = pen_of(store)
    pen.write(TaskEvent(submitted=TaskSubmitted(tenant="acme", task="hi")))
    await pen.sync()
    (storing,) = asyncio.all_tasks() - before
    pen.write(TaskEvent(model_started=ModelStarted(turn=1)))
    await pen.sync()

    assert asyncio.all_tasks() - before == {storing}
    pen.close()
    await asyncio.wait_for(storing, 5)


async def test_no_asyncio_task_waits_for_events_after_the_terminal_one(store: FakeStore) -> None:
    before = asyncio.all_tasks()
    pen = pen_of(store)
    pen.write(TaskEvent(submitted=TaskSubmitted(tenant="acme", task="hi")))
    pen.write(TaskEvent(attempt_started=AttemptStarted(worker="w")))
    await pen.sync()
    pen.write(TaskEvent(completed=TaskCompleted(output="hello")))
    await pen.sync()

    assert asyncio.all_tasks() == before


async def test_what_a_closed_journal_had_to_retry_is_stored_all_the_same(store: FakeStore) -> None:
    before = asyncio.all_tasks()
    pen = pen_of(store)
    pen.write(TaskEvent(submitted=TaskSubmitted(tenant="acme", task="hi")))
    await pen.sync()
    (storing,) = asyncio.all_tasks() - before
    store.failures = 3
    pen.write(TaskEvent(model_started=ModelStarted(turn=1)))
    pen.flush()
    pen.close()
    await asyncio.wait_for(storing, 5)

    assert [event.WhichOneof("event") for event in await store.read("t")] == ["submitted", "model_started"]


async def test_a_journal_that_was_taken_over_leaves_no_asyncio_task(store: FakeStore) -> None:
    before = asyncio.all_tasks()
    pen = pen_of(store)
    pen.write(TaskEvent(submitted=TaskSubmitted(tenant="acme", task="hi")))
    await pen.sync()
    await store.append([TaskEvent(task_id="t", attempt=1, attempt_started=AttemptStarted(worker="x"))], attempt=0)
    pen.write(TaskEvent(model_started=ModelStarted(turn=1)))
    with pytest.raises(AppendRefusedError):
        await pen.sync()
    pen.write(TaskEvent(model_replied=ModelReplied(turn=1)))
    pen.close()

    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("agent", [None, AtOnce()])
async def test_a_task_that_the_store_does_not_take_is_refused_and_nothing_of_it_is_left(
    store: FakeStore, call: Call, agent: AtOnce | None
) -> None:
    store.failures = 1
    asked: list[bool] = []
    model = FakeModel(after(lambda: asked.append(True), says("hello")))
    parts = Parts(timing=AT_ONCE, model=model, tools=[look], store=store)
    if agent is not None:
        parts.agent = agent
    async with started(parts) as running:
        with pytest.raises(CallError) as refused:
            await call(running)
        assert await running.runner.drained(timeout_s=5)
        told = [line["event"] for line in running.log]

    assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert refused.value.retry_after_s is not None
    assert await unfinished(store) == []
    assert store.refused[0][0] == "submitted"
    assert len(store.refused) == 1
    assert asked == []
    assert "task" not in told  # the line of a task that has ended


async def test_the_next_task_is_taken_as_soon_as_the_store_works_again(store: FakeStore) -> None:
    store.failures = 1
    async with started(Parts(timing=AT_ONCE, store=store)) as running:
        with pytest.raises(CallError):
            await running.client.run("hi")
        assert (await running.client.run("hi")).state == TASK_STATE_COMPLETED


async def test_nobody_is_asked_anything_before_the_task_is_stored(store: FakeStore) -> None:
    store.hold()
    asked: list[bool] = []
    model = FakeModel(after(lambda: asked.append(True), says("hello")))
    async with started(Parts(timing=AT_ONCE, model=model, store=store)) as running:
        call = asyncio.create_task(running.client.run("hi"))
        await store.is_held()
        assert asked == []
        assert not call.done()
        store.release()
        assert (await call).output == "hello"


async def test_a_tool_with_side_effects_does_not_run_before_its_start_is_stored(store: FakeStore) -> None:
    ran: list[bool] = []

    @tool(side_effect="side_effecting")
    async def pay() -> str:
        """Pays."""
        ran.append(True)
        return "paid"

    model = FakeModel(after(store.hold, calls(("pay", {}))), says("paid"))
    async with started(Parts(timing=AT_ONCE, model=model, tools=[pay], store=store)) as running:
        call = asyncio.create_task(running.client.run("pay"))
        await store.is_held()
        assert ran == []
        store.release()
        assert (await call).output == "paid"
    assert ran == [True]


async def test_the_end_is_told_to_nobody_before_it_is_stored(store: FakeStore) -> None:
    async with started(
        Parts(timing=AT_ONCE, model=FakeModel(after(store.hold, says("hello"))), store=store)
    ) as running:
        call = asyncio.create_task(running.client.run("hi"))
        await store.is_held()
        task_id = await store.has("model_started")
        assert (await running.client.get_task(task_id)).state == TASK_STATE_WORKING
        assert not call.done()
        assert "task" not in [line["event"] for line in running.log]
        store.release()
        assert (await call).state == TASK_STATE_COMPLETED


async def test_a_tool_that_takes_its_time_is_in_the_journal_while_it_runs(store: FakeStore) -> None:
    release = asyncio.Event()

    @tool(side_effect="read_only")
    async def study() -> str:
        """Takes its time."""
        await release.wait()
        return "done"

    async with started(Parts(timing=AT_ONCE, tools=[study], store=store)) as running:
        call = asyncio.create_task(running.client.invoke_tool("study"))
        task_id = await store.has("submitted", "tool_started")
        assert (await running.client.get_task(task_id)).state == TASK_STATE_WORKING
        release.set()
        assert (await call).output.string_value == "done"


async def test_an_attempt_that_lost_its_task_writes_nothing_more_and_claims_no_end(store: FakeStore) -> None:
    release = asyncio.Event()

    async def late(_: ModelRequest, __: ModelObserver) -> ModelReply:
        await release.wait()
        return reply("too late")

    async with started(Parts(timing=AT_ONCE, model=FakeModel(late), store=store)) as running:
        call = asyncio.create_task(running.client.run("hi"))
        task_id = await store.has("model_started")
        await take_over(store, task_id)
        release.set()
        assert await running.runner.drained(timeout_s=5)
        told = [line["event"] for line in running.log]
        assert await running.journal(task_id) == ["submitted", "attempt_started", "model_started", "attempt_started"]
        assert not call.done()
        await store.append([other_says(task_id, "from elsewhere")], attempt=2)
        assert (await call).output == "from elsewhere"

    assert "attempt_fenced" in told
    assert "task" not in told


async def test_an_attempt_that_lost_its_task_changes_nothing_in_the_world(store: FakeStore) -> None:
    release, ran = asyncio.Event(), []

    @tool(side_effect="side_effecting")
    async def pay() -> str:
        """Pays."""
        ran.append(True)
        return "paid"

    async def late(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await release.wait()
        made: ModelReply = await calls(("pay", {}))(request, observer)
        return made

    async with started(Parts(timing=AT_ONCE, model=FakeModel(late), tools=[pay], store=store)) as running:
        call = asyncio.create_task(running.client.run("pay"))
        task_id = await store.has("model_started")
        await take_over(store, task_id)
        release.set()
        assert await running.runner.drained(timeout_s=5)
        await store.append([other_says(task_id, "not paid")], attempt=2)
        assert (await call).output == "not paid"
    assert ran == []


async def test_events_carry_their_task_their_attempt_and_a_time_that_does_not_run_back() -> None:
    async with started(
        Parts(timing=AT_ONCE, model=FakeModel(calls(("look", {})), says("hello")), tools=[look])
    ) as running:
        task: Task = await running.client.run("hi")
        events = await running.store.read(task.id)

    assert {event.task_id for event in events} == {task.id}
    assert [event.attempt for event in events] == [0] + [1] * (len(events) - 1)
    times = [event.create_time.ToNanoseconds() for event in events]
    assert times == sorted(times)
    assert (task.create_time, task.update_time) == (events[0].create_time, events[-1].create_time)


async def test_a_cancel_that_another_process_wrote_is_heard_though_the_store_cannot_be_read_at_once(
    store: FakeStore,
) -> None:
    """It stands between two events of the task, before one of its calls and before one that waits for input."""
    elsewhere: list[asyncio.Future[Appended]] = []

    def cancel() -> None:
        (task_id,) = running.runner.running
        requested = CancelRequested(cause=CANCEL_CAUSE_USER, requested_by="another")
        event = TaskEvent(task_id=task_id, attempt=1, cancel_requested=requested)
        elsewhere.append(asyncio.ensure_future(store.append([event], attempt=None)))
        store.read_failures = 2

    for needs_approval in ([], ["look"]):
        model = FakeModel(after(cancel, calls(("look", {}))), hang)
        async with started(
            Parts(timing=AT_ONCE, model=model, tools=[look], store=store, needs_approval=needs_approval)
        ) as running:
            async with asyncio.timeout(20):
                task = await running.client.run("hi")
            assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_USER)
            journal = await running.journal(task.id)
        assert store.read_failures == 0
        assert (journal.count("cancel_requested"), journal[-1]) == (1, "canceled")
        await elsewhere.pop()

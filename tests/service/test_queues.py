"""How many tasks run, who waits, and whose turn it is, by count."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from agent_service.client import CallError, approve
from agent_service.client.following import is_journaled
from agent_service.engine.timing import Timing
from agent_service.keys.base import Principal, Scope
from agent_service.limits.base import Rule
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.service.service import ServiceOptions
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.error_reason_pb2 import (
    ERROR_REASON_ATTEMPTS_EXHAUSTED,
    ERROR_REASON_DEADLINE_EXCEEDED,
    ERROR_REASON_KEY_REVOKED,
)
from agent_service.v1.task_event_pb2 import (
    ATTEMPT_END_CAUSE_LOST,
    AttemptEnded,
    AttemptStarted,
    ModelStarted,
    TaskEvent,
    TaskSubmitted,
)
from agent_service.v1.task_pb2 import (
    TASK_KIND_AGENT,
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    TASK_STATE_SUBMITTED,
    TASK_STATE_WORKING,
)
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, TestKeys, calls, reply, says, started
from tests.service.worlds import PATIENCE_S, Gate, request, stub, until

DETAILS = "grpc-status-details-bin"


async def test_as_many_run_as_may_one_more_is_refused_and_submitted_ones_wait() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), running_max=3)) as running:
        first = [asyncio.ensure_future(running.client.run("go")) for _ in range(3)]
        await gate.holds(3)
        async with stub(running) as (methods, metadata):
            with pytest.raises(aio.AioRpcError) as refused:
                await methods.RunTask(request(), metadata=metadata)
            (encoded,) = [value for key, value in refused.value.trailing_metadata() or () if key == DETAILS]
        assert isinstance(encoded, bytes)
        (retry,) = [detail for detail in Status.FromString(encoded).details if detail.Is(RetryInfo.DESCRIPTOR)]
        assert RetryInfo.FromString(retry.value).retry_delay.seconds == 1
        with pytest.raises(CallError, match="OVERLOADED"):
            await running.client.run("go")
        waiting = await running.client.submit("go")
        assert (await running.client.get_task(waiting.id)).state == TASK_STATE_SUBMITTED
        assert len(running.runner.running) == 3
        gate.open()
        await asyncio.gather(*first)
        await running.is_quiet()
        assert (await running.client.get_task(waiting.id)).state == TASK_STATE_COMPLETED


async def test_of_64_that_come_at_once_exactly_as_many_run_as_may() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), running_max=10)) as running:
        calls = [asyncio.ensure_future(running.client.run("go")) for _ in range(64)]
        await until(lambda: sum(call.done() for call in calls) == 54)
        await gate.holds(10)
        assert len(running.runner.running) == 10
        gate.open()
        done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, CallError) and one.reason == "OVERLOADED" for one in done) == 54


async def test_of_tasks_that_begin_sessions_of_their_own_no_more_come_in_than_may_run() -> None:
    store, gate = FakeStore(), Gate()
    async with started(Parts(model=FakeModel(gate.step), store=store, running_max=3)) as running:
        store.hold()
        calls = [asyncio.ensure_future(running.client.run("go", session_id=f"s{number}")) for number in range(20)]
        await until(lambda: sum(call.done() for call in calls) == 17)
        store.release()
        await gate.holds(3)
        gate.open()
        done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, CallError) and one.reason == "OVERLOADED" for one in done) == 17


async def test_of_64_submitted_at_once_a_tenant_has_exactly_as_many_in_line_as_may() -> None:
    gate = Gate()
    options = ServiceOptions(queued_max=7)
    async with started(Parts(model=FakeModel(gate.step), running_max=1, options=options)) as running:
        await running.client.submit("runs")
        await gate.holds()
        answers = await asyncio.gather(*(running.client.submit("go") for _ in range(64)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, CallError)]
        assert {(error.code, error.reason) for error in refused} == {("UNAVAILABLE", "OVERLOADED")}
        assert len(refused) == 64 - 7
        await running.other_tenant.submit("another tenant's line is its own")
        assert len((await running.client.list_tasks(states=[TASK_STATE_SUBMITTED])).tasks) == 7
        gate.open()
        await running.is_quiet()


async def test_what_is_refused_for_overload_costs_no_share_of_a_limit() -> None:
    gate = Gate()
    two = Rule("two-calls", calls_max=2, window_s=3600)
    async with started(Parts(model=FakeModel(gate.step), running_max=1, rules=[two])) as running:
        first = asyncio.ensure_future(running.client.run("go"))
        await gate.holds()
        for _ in range(5):
            with pytest.raises(CallError, match="OVERLOADED"):
                await running.client.run("go")
        gate.open()
        await first
        await running.is_quiet()
        await running.client.run("the second")
        with pytest.raises(CallError, match="RATE_LIMITED_CALLS"):
            await running.client.run("the third")


async def test_tenants_take_turns_however_many_one_of_them_has_in_line() -> None:
    order: list[str] = []
    gate = Gate()

    async def note(request: ModelRequest, _: ModelObserver) -> ModelReply:
        order.append(request.messages[-1].text)
        return reply("ok")

    async with started(Parts(model=FakeModel(gate.step, note), running_max=1)) as running:
        await running.client.submit("in the way")
        await gate.holds()
        for number in range(4):
            await running.client.submit(f"a{number}")
        for number in range(2):
            await running.other_tenant.submit(f"b{number}")
        gate.open()
        await running.is_quiet()
    assert order == ["a0", "b0", "a1", "b1", "a2", "a3"]


async def test_an_answered_task_goes_before_those_that_queue() -> None:
    @tool(side_effect="read_only")
    def look() -> str:
        """Looks."""
        return "seen"

    order: list[str] = []
    gate = Gate()

    async def note(request: ModelRequest, _: ModelObserver) -> ModelReply:
        order.append(request.messages[0].text)
        return reply("ok")

    model = FakeModel(calls(("look", {})), gate.step, note)
    async with started(Parts(model=model, tools=[look], needs_approval=["look"], running_max=1)) as running:
        asks = await running.client.run("asks")
        await running.client.submit("in the way")
        await gate.holds()
        await running.client.submit("queues")
        await running.client.resume(asks.id, "input_1", approve())
        assert (await running.client.get_task(asks.id)).state == TASK_STATE_WORKING
        gate.open()
        await running.is_quiet()
    assert order == ["asks", "queues"]


async def test_a_canceled_task_leaves_its_line() -> None:
    gate = Gate()
    model = FakeModel(gate.step, says("ran"))
    async with started(Parts(model=model, running_max=1)) as running:
        await running.client.submit("in the way")
        await gate.holds()
        waiting = [await running.client.submit(f"{number}") for number in range(3)]
        await running.client.cancel(waiting[1].id)
        gate.open()
        await running.is_quiet()
        assert await running.journal(waiting[1].id) == ["submitted", "cancel_requested", "canceled"]
    assert [request.messages[-1].text for request in model.requests] == ["in the way", "0", "2"]


async def test_what_a_revoked_key_has_begun_goes_on_and_what_waits_is_rejected() -> None:
    gate, secret = Gate(), "a-secret-that-leaks-and-is-then-revoked"
    leaked = {secret: Principal("acme", "leaked", frozenset(Scope) - {Scope.ADMIN})}
    keys = TestKeys(leaked)
    async with started(Parts(model=FakeModel(gate.step), keys=keys, running_max=1)) as running:
        async with stub(running, secret) as (methods, metadata):
            submit = [await methods.SubmitTask(pb.SubmitTaskRequest(run=request()), metadata=metadata) for _ in "ab"]
        begun, waiting = [submitted.task.id for submitted in submit]
        await gate.holds()
        keys.revoke(secret)
        gate.open()
        await running.is_quiet()
        assert (await running.client.get_task(begun)).state == TASK_STATE_COMPLETED
        failed = await running.client.get_task(waiting)
        assert (failed.state, failed.failure.reason) == (TASK_STATE_REJECTED, ERROR_REASON_KEY_REVOKED)
        listed = await running.client.list_tasks(submitted_by="leaked")
        assert [task.id for task in listed.tasks] == [waiting, begun]


async def lost(store: FakeStore, task_id: str, times: int, *, open_now: bool) -> None:
    """A task whose attempts ended so often with their process, the last one perhaps just now."""
    submitted = TaskSubmitted(kind=TASK_KIND_AGENT, tenant="acme", agent="assistant", model="fake", task=task_id)
    submitted.submitted_by = "acme"
    first = TaskEvent(task_id=task_id, submitted=submitted)
    first.create_time.GetCurrentTime()
    first.submitted.limits.turns = 5
    first.submitted.deadline.seconds = first.create_time.seconds + 60
    await store.append([first], attempt=0)
    for attempt in range(1, times + 1):
        events = [TaskEvent(task_id=task_id, attempt=attempt, attempt_started=AttemptStarted(worker="gone"))]
        events.append(TaskEvent(task_id=task_id, attempt=attempt, model_started=ModelStarted(turn=1, try_number=1)))
        if attempt < times or not open_now:
            ended = AttemptEnded(cause=ATTEMPT_END_CAUSE_LOST)
            events.append(TaskEvent(task_id=task_id, attempt=attempt, attempt_ended=ended))
        await store.append(events, attempt=attempt - 1)


async def test_what_another_process_has_begun_is_not_taken_from_it() -> None:
    store, ours, theirs, second = FakeStore(), Gate(), Gate(), Gate()
    one_at_a_time = Parts(timing=Timing(adopt=0.01), store=store, running_max=1)
    async with (
        started(replace(one_at_a_time, model=FakeModel(ours.step, says("ran")))) as here,
        started(replace(one_at_a_time, model=FakeModel(theirs.step, second.step))) as there,
    ):
        await here.client.submit("in the way")
        await there.client.submit("in the way")
        await asyncio.gather(ours.holds(), theirs.holds())
        task = await there.client.submit("go")
        await until(lambda: task.id in here.service.line.task_ids)
        theirs.open()
        await second.holds()
        ours.open()
        await until(lambda: not (here.runner.running or here.service.dispatcher._claims))
        second.open()
        async for _ in here.client.watch(task.id):
            pass
        assert (await here.journal(task.id)).count("attempt_started") == 1


async def test_a_task_that_waits_to_go_on_fails_with_its_deadline() -> None:

    @tool(side_effect="read_only")
    def look() -> str:
        """Looks."""
        return "seen"

    gate = Gate()
    model = FakeModel(calls(("look", {})), gate.step)
    async with started(
        Parts(timing=Timing(adopt=0.01), model=model, tools=[look], needs_approval=["look"], running_max=1)
    ) as running:
        asks = await running.client.run("asks", timeout_s=1)
        await running.client.submit("in the way")
        await gate.holds()
        await running.client.resume(asks.id, "input_1", approve())
        async with asyncio.timeout(PATIENCE_S):
            seen = [event async for event in running.client.watch(asks.id)]
        arms = [event.WhichOneof("event") for event in seen if is_journaled(event)]
        assert arms[-2:] == ["input_received", "failed"]
        task = await running.client.get_task(asks.id)
        assert (task.failure.reason, task.usage.model_calls) == (ERROR_REASON_DEADLINE_EXCEEDED, 1)
        gate.open()


async def test_a_drain_ends_though_the_store_is_away_from_what_was_claimed() -> None:
    store = FakeStore()
    await lost(store, "claimed", 1, open_now=True)
    store.failures = 10**9
    async with started(Parts(store=store)) as running:
        await until(lambda: running.runner.running)
        async with asyncio.timeout(PATIENCE_S):
            await running.service.drain(0)
        assert not running.runner.running
        store.failures = 0


@pytest.mark.parametrize("open_now", [True, False])
async def test_tasks_lost_twice_restart_one_at_a_time(open_now: bool) -> None:
    store, gate = FakeStore(), Gate()
    for number in range(3):
        await lost(store, f"suspect{number}", 2, open_now=open_now)
    await lost(store, "innocent", 1, open_now=open_now)
    at_once: list[int] = []
    is_started = asyncio.Event()  # what the store has left is driven before the server is there to be looked at

    async def watchful(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await is_started.wait()
        at_once.append(sum(task_id.startswith("suspect") for task_id in running.runner.running))
        return await gate.step(request, observer)

    async with started(Parts(model=FakeModel(watchful), store=store)) as running:
        is_started.set()
        await gate.holds(2)
        assert set(running.runner.running) == {"suspect0", "innocent"}
        waiting = (await running.client.get_task("suspect1")).waiting
        assert waiting.message == "a task that was lost twice runs alone, and another one is running"
        gate.open()
        await running.is_quiet()
        states = {(await running.client.get_task(f"suspect{number}")).state for number in range(3)}
    assert states == {TASK_STATE_COMPLETED}
    assert max(at_once) == 1


async def test_a_suspect_that_came_to_nothing_lets_the_next_one_begin() -> None:
    store = FakeStore()
    for number in range(3):
        await lost(store, f"suspect{number}", 2, open_now=False)
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), store=store)) as running:
        await gate.holds()
        assert (await running.client.cancel("suspect1")).state == TASK_STATE_CANCELED
        gate.open()
        async with asyncio.timeout(20):
            async for _ in running.client.watch("suspect2"):
                pass
        assert (await running.client.get_task("suspect2")).state == TASK_STATE_COMPLETED


async def test_three_losses_without_a_step_forward_end_the_task() -> None:
    store, model = FakeStore(), FakeModel(says("never asked"))
    await lost(store, "poison", 3, open_now=True)
    async with started(Parts(model=model, store=store)) as running:
        await running.is_quiet()
        task = await running.client.get_task("poison")
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_ATTEMPTS_EXHAUSTED)
    assert model.requests == []


async def headers(running: Running, method: str) -> dict[str, str]:
    async with stub(running) as (methods, metadata):
        if method == "RunTask":
            return dict(await _initial(methods.RunTask(request(), metadata=metadata)))
        if method == "SubmitTask":
            return dict(await _initial(methods.SubmitTask(pb.SubmitTaskRequest(run=request()), metadata=metadata)))
        call = methods.StreamTask(pb.StreamTaskRequest(run=request()), metadata=metadata)
        async for _ in call:
            pass
        return dict(await call.initial_metadata())


async def _initial(call: Any) -> Any:
    await call
    return await call.initial_metadata()


@pytest.mark.parametrize("method", ["RunTask", "StreamTask", "SubmitTask"])
async def test_the_headers_tell_of_the_tightest_rule_also_where_it_names_the_agent(method: str) -> None:
    rules = [Rule("of-all", calls_max=100, window_s=3600), Rule("of-it", agent="assistant", calls_max=2, window_s=3600)]
    async with started(Parts(rules=rules)) as running:
        told = [await headers(running, method) for _ in range(2)]
        with pytest.raises(aio.AioRpcError) as refused:
            await headers(running, method)
    assert [(one["ratelimit-limit"], one["ratelimit-remaining"]) for one in told] == [("2", "1"), ("2", "0")]
    trailers = dict(refused.value.trailing_metadata() or ())
    assert (trailers["ratelimit-limit"], trailers["ratelimit-remaining"]) == ("2", "0")
    assert trailers["ratelimit-reset"] == trailers["retry-after"]

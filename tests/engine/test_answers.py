"""Which answers a waiting task takes, from whom, and until when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from agent_service.client import AsyncClient, CallError, approve, deny, failure, reply, result, run_again
from agent_service.engine.timing import Timing
from agent_service.keys.base import Principal, Scope
from agent_service.store.memory import MemoryStore
from agent_service.tools.decorator import tool
from agent_service.v1.error_reason_pb2 import ERROR_REASON_INPUT_TIMEOUT
from agent_service.v1.task_event_pb2 import AttemptStarted, InputRequired, ModelReplied, TaskEvent, TaskSubmitted
from agent_service.v1.task_pb2 import (
    INPUT_KIND_APPROVAL,
    TASK_KIND_AGENT,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_INPUT_REQUIRED,
    Deny,
    InputAnswer,
    PendingInput,
)
from agent_service.v1.tool_pb2 import ToolCall
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, TestKeys, calls, says, started


@tool(side_effect="side_effecting")
async def pay() -> str:
    """Pays."""
    return "paid"


def parts(*, count: int = 1) -> Parts:
    model = FakeModel(calls(*(("pay", {}) for _ in range(count))), says("done"))
    return Parts(model=model, tools=[pay], needs_approval=["pay"])


def key(scope: Scope, *more: Scope, tenant: str = "acme", key_id: str = "") -> Principal:
    return Principal(tenant, key_id or str(scope), frozenset({scope, *more}))


async def refusal(client: AsyncClient, task_id: str, input_id: str, answer: InputAnswer) -> CallError:
    with pytest.raises(CallError) as refused:
        await client.resume(task_id, input_id, answer)
    return refused.value


async def finished(running: Running, task_id: str) -> int:
    async with asyncio.timeout(30):
        async for _ in running.client.watch(task_id):
            pass
    return (await running.client.get_task(task_id)).state


async def test_the_same_answer_again_is_fine_and_changes_nothing_also_after_the_end() -> None:
    async with started(parts(count=2)) as running:
        task = await running.client.run("go")
        once = await running.client.resume(task.id, "input_1", deny("no"))
        assert await running.client.resume(task.id, "input_1", deny("no")) == once
        await running.client.resume(task.id, "input_2", approve())
        assert await finished(running, task.id) == TASK_STATE_COMPLETED
        ended = await running.client.get_task(task.id)
        assert await running.client.resume(task.id, "input_1", deny("no")) == ended
        assert (await running.journal(task.id)).count("input_received") == 2


@pytest.mark.parametrize("other", [approve(), deny("not at all"), deny("")])
async def test_another_answer_than_the_one_that_was_given_is_stale(other: InputAnswer) -> None:
    async with started(parts(count=2)) as running:
        task = await running.client.run("go")
        await running.client.resume(task.id, "input_1", deny("no"))
        refused = await refusal(running.client, task.id, "input_1", other)
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "STALE_ANSWER")
        assert refused.metadata == {"task_id": task.id, "input_id": "input_1"}
        assert (await running.journal(task.id)).count("input_received") == 1


async def test_of_two_different_answers_at_once_one_stands_and_the_other_is_stale() -> None:
    async with started(parts(count=2)) as running:
        task = await running.client.run("go")
        answers = [approve(), deny("no")] * 4
        told = await asyncio.gather(
            *(running.client.resume(task.id, "input_1", answer) for answer in answers), return_exceptions=True
        )
        refused = [one for one in told if isinstance(one, CallError)]
        assert [one.reason for one in refused] == 4 * ["STALE_ANSWER"]


async def test_an_input_that_there_is_not_is_stale() -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        assert (await refusal(running.client, task.id, "input_2", approve())).reason == "STALE_ANSWER"
        done = await running.client.run("go on", request_id="other")
        assert done.state == TASK_STATE_COMPLETED
        assert (await refusal(running.client, done.id, "input_1", approve())).reason == "TASK_TERMINAL"


async def test_an_answer_to_a_task_that_was_canceled_first_is_told_so() -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        await running.client.cancel(task.id)
        refused = await refusal(running.client, task.id, "input_1", approve())
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "TASK_TERMINAL")
        assert refused.metadata == {"task_id": task.id, "state": "CANCELED"}


async def test_another_tenants_task_is_not_there() -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        refused = await refusal(running.other_tenant, task.id, "input_1", approve())
        assert (refused.code, refused.reason) == ("NOT_FOUND", "TASK_NOT_FOUND")
        for malformed in ("", "no such id!", "x" * 500):
            assert (await refusal(running.client, malformed, "input_1", approve())).reason == "TASK_NOT_FOUND"
        assert (await running.client.get_task(task.id)).state == TASK_STATE_INPUT_REQUIRED


async def test_to_answer_takes_a_scope_of_its_own_and_who_had_it_is_in_the_journal() -> None:
    keys = TestKeys({
        "r": key(Scope.TASKS_RUN, Scope.TASKS_READ, Scope.TASKS_CANCEL),
        "a": key(Scope.TASKS_ANSWER, key_id="the-boss"),
    })  # fmt: skip
    async with started(replace(parts(), keys=keys)) as running:
        async with AsyncClient(running.target, api_key="r") as runs, AsyncClient(running.target, api_key="a") as boss:
            task = await runs.run("go")
            refused = await refusal(runs, task.id, "input_1", approve())
            assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
            assert refused.metadata == {"scope": "tasks.answer"}
            await boss.resume(task.id, "input_1", approve())
        (event,) = [one for one in await running.store.read(task.id) if one.HasField("input_received")]
        assert event.input_received.answered_by == "the-boss"


async def test_an_agent_may_forbid_that_the_submitting_key_answers() -> None:
    keys = TestKeys({"boss": key(Scope.TASKS_ANSWER)})
    async with started(replace(parts(), keys=keys, submitter_may_answer=False)) as running:
        task = await running.client.run("go")
        refused = await refusal(running.client, task.id, "input_1", approve())
        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "SUBMITTER_MAY_NOT_ANSWER")
        assert refused.metadata == {"task_id": task.id}
        async with AsyncClient(running.target, api_key="boss") as boss:
            await boss.resume(task.id, "input_1", approve())
        assert await finished(running, task.id) == TASK_STATE_COMPLETED


@pytest.mark.parametrize("answer", [run_again(), result(1), failure("no"), reply("yes")])
async def test_an_answer_of_the_wrong_kind_is_refused_by_its_field(answer: InputAnswer) -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        refused = await refusal(running.client, task.id, "input_1", answer)
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        assert refused.violations == (("answer", "APPROVAL accepts one of approve, deny"),)


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        (InputAnswer(deny=Deny(comment="é" * 501)), "answer.deny.comment"),
        (InputAnswer(output_json="{"), "answer.output_json"),
        (InputAnswer(output_json=""), "answer.output_json"),
        (InputAnswer(output_json="NaN"), "answer.output_json"),
        (InputAnswer(output_json='"\\ud800"'), "answer.output_json"),
        (InputAnswer(output_json="[" * 100_000), "answer.output_json"),
        (InputAnswer(output_json='"' + "é" * 131_072 + '"'), "answer.output_json"),
        (InputAnswer(error_message=""), "answer.error_message"),
        (InputAnswer(error_message="é" * 501), "answer.error_message"),
        (InputAnswer(message=""), "answer.message"),
        (InputAnswer(message="x" * 10_001), "answer.message"),
        (InputAnswer(), "answer"),
    ],
)
async def test_an_answer_that_breaks_its_bounds_is_refused_by_its_field(answer: InputAnswer, field: str) -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        refused = await refusal(running.client, task.id, "input_1", answer)
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        ((path, told),) = refused.violations
        assert path == field
        assert told.startswith(("must ", "is required"))


async def test_all_that_is_wrong_with_an_answer_is_told_at_once() -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        refused = await refusal(running.client, task.id, "", InputAnswer(message=""))
        assert [violation[0] for violation in refused.violations] == ["input_id", "answer.message"]


@asynccontextmanager
async def impatient(asked: Parts) -> AsyncIterator[Running]:
    """A server that looks for what is overdue all the time."""
    async with started(replace(asked, timing=Timing(adopt=0.005))) as running:
        yield running


async def test_a_task_that_nobody_answers_in_time_fails_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    overdue, answered = store.overdue, False

    async def overdue_later(now_us: int, *, limit: int = 1000) -> list[str]:
        return await overdue(now_us, limit=limit) if answered else []

    monkeypatch.setattr(store, "overdue", overdue_later)
    async with impatient(replace(parts(count=2), input_timeout_s=0.01, store=store)) as running:
        task = await running.client.run("go")
        assert task.state == TASK_STATE_INPUT_REQUIRED
        # One answer of two holds nothing up.
        await running.client.resume(task.id, "input_1", approve())
        answered = True
        async with asyncio.timeout(30):
            await store.has("failed")
        task = await running.client.get_task(task.id)
        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, ERROR_REASON_INPUT_TIMEOUT)
        assert list(task.pending_inputs) == []
        assert task.usage.model_calls == 1
        assert (await running.journal(task.id))[-2:] == ["input_received", "failed"]
        assert (await refusal(running.client, task.id, "input_2", approve())).reason == "TASK_TERMINAL"


async def test_a_wait_that_ended_with_the_server_away_is_ended_when_it_is_back() -> None:
    store = FakeStore()
    await waiting(store, "t", began_s_ago=7200, expires_in_s=-3600)
    async with impatient(replace(parts(), store=store)) as running:
        async with asyncio.timeout(30):
            await store.has("failed")
        assert (await running.client.get_task("t")).failure.reason == ERROR_REASON_INPUT_TIMEOUT


async def test_the_clock_of_a_task_stands_still_while_it_waits() -> None:
    async with started(parts()) as running:
        before = await running.client.run("go", timeout_s=20)
        after = await running.client.resume(before.id, "input_1", approve())
        events = {event.WhichOneof("event"): event for event in await running.store.read(before.id)}
        began, ended = events["input_required"].create_time, events["input_received"].create_time
        waited_ns = ended.ToNanoseconds() - began.ToNanoseconds()
        assert waited_ns > 0
        assert after.deadline.ToNanoseconds() == after.create_time.ToNanoseconds() + 20 * 10**9 + waited_ns


async def test_a_callers_deadline_binds_no_more_once_the_task_has_waited() -> None:
    keys = TestKeys()
    async with started(replace(parts(), keys=keys)) as running:
        before = await running.client.run("go", timeout_s=100)
        events = await running.store.read(before.id)
        assert events[0].submitted.timeout.seconds == 100
        store = FakeStore()
        await waiting(store, "t", began_s_ago=60, expires_in_s=60, timeout_s=100, deadline_s=2)
    async with started(replace(parts(), store=store)) as running:
        after = await running.client.resume("t", "input_1", approve())
        left_s = after.deadline.ToSeconds() - time.time()
        assert 90 < left_s < 110


async def test_a_task_whose_time_had_passed_by_the_clock_on_the_wall_still_ends_well() -> None:
    store = FakeStore()
    await waiting(store, "t", began_s_ago=7200, expires_in_s=3600)
    async with started(replace(parts(), model=FakeModel(says("done")), store=store)) as running:
        assert (await running.client.get_task("t")).state == TASK_STATE_INPUT_REQUIRED
        await running.client.resume("t", "input_1", approve())
        assert await finished(running, "t") == TASK_STATE_COMPLETED


async def waiting(
    store: FakeStore,
    task_id: str,
    *,
    began_s_ago: int,
    expires_in_s: int,
    timeout_s: int = 30,
    deadline_s: int | None = None,
) -> None:
    """A task that has waited for an approval since long ago."""
    now_s = int(time.time())
    call = ToolCall(id="c0", name="pay", arguments_json="{}")
    asked = PendingInput(input_id="input_1", kind=INPUT_KIND_APPROVAL, tool_call=call)
    asked.expire_time.FromSeconds(now_s + expires_in_s)
    submitted = TaskSubmitted(kind=TASK_KIND_AGENT, tenant="acme", agent="assistant", model="fake", task="go")
    submitted.limits.CopyFrom(Parts().limits)
    if timeout_s:
        submitted.timeout.FromSeconds(timeout_s)
    submitted.deadline.FromSeconds(now_s - began_s_ago + (timeout_s if deadline_s is None else deadline_s))
    events = [
        TaskEvent(submitted=submitted),
        TaskEvent(attempt=1, attempt_started=AttemptStarted(worker="gone")),
        TaskEvent(attempt=1, model_replied=ModelReplied(turn=1, tool_calls=[call])),
        TaskEvent(attempt=1, input_required=InputRequired(inputs=[asked])),
    ]
    for event in events:
        event.task_id = task_id
        event.create_time.FromSeconds(now_s - began_s_ago)
    await store.append(events, attempt=0)


async def test_who_takes_a_task_over_that_meanwhile_began_to_wait_leaves_it_waiting() -> None:
    whole, store = FakeStore(), FakeStore()
    await waiting(whole, "t", began_s_ago=1, expires_in_s=60)
    *before, required = await whole.read("t")
    await store.append(before, attempt=0)
    store.hold()
    async with started(replace(parts(), model=FakeModel(says("done")), store=store)) as running:
        await store.is_held()
        # Its owner, taken for dead, is quicker after all.
        await MemoryStore.append(store, [required], attempt=1)
        store.release()
        await running.is_quiet()
        task = await running.client.get_task("t")
        assert (task.state, task.attempt) == (TASK_STATE_INPUT_REQUIRED, 1)
        await running.client.resume("t", "input_1", approve())
        assert await finished(running, "t") == TASK_STATE_COMPLETED


async def test_a_task_of_a_version_that_knew_no_waiting_may_wait_for_a_day() -> None:
    store = FakeStore()
    await waiting(store, "t", began_s_ago=10, expires_in_s=60, timeout_s=0, deadline_s=30)
    model = FakeModel(calls(("pay", {})), says("done"))
    async with started(replace(parts(), model=model, store=store)) as running:
        answered = await running.client.resume("t", "input_1", approve())
        assert 35 < answered.deadline.ToSeconds() - answered.create_time.ToSeconds() < 45
        assert await finished(running, "t") == TASK_STATE_INPUT_REQUIRED
        (asked,) = (await running.client.get_task("t")).pending_inputs
        assert 86_000 < asked.expire_time.ToSeconds() - time.time() < 87_000


async def test_every_end_is_told_to_the_log_and_the_metrics_also_of_tasks_that_nobody_drives() -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        assert [line["inputs"] for line in running.log if line["event"] == "task_waiting"] == [1]
        await running.client.cancel(task.id)
        ends = [(line["task_id"], line["state"]) for line in running.log if line["event"] == "task"]
        assert ends == [(task.id, "CANCELED")]
        assert running.metrics.tasks_ended("AGENT", "CANCELED", "USER").value == 1

"""Budgets of tasks and of tenants: nothing is asked of a model that could exceed one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from agent_service.client import CallError
from agent_service.engine.tenant_budgets import Budget
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import ModelStarted, TaskLimits
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED, Task
from tests.e2e.tasks.test_usage import PRICED, hangs, uses
from tests.fakes.store import FakeStore
from tests.harness import KEY, FakeModel, Parts, Running, Step, calls, says, started


@tool(side_effect="read_only")
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


class Counted(FakeModel):
    """A model that counts how often it was really asked, rather than begun with."""

    def __init__(self, step: Step) -> None:
        super().__init__(self._count)
        self._step = step
        self.asked = 0

    async def _count(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        self.asked += 1
        reply: ModelReply = await self._step(request, observer)
        return reply


def limits(**more: int) -> TaskLimits:
    return TaskLimits(turns=50, tool_calls=50, parallel_tools=4, **more)


async def reserved(parts: Parts, task: str = "hi") -> ModelStarted:
    """What the first request of a task takes at most."""
    async with started(parts) as running:
        events = await running.store.read((await running.client.run(task)).id)
        return next(event.model_started for event in events if event.HasField("model_started"))


def is_refused(task: Task, *told: object) -> None:
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_BUDGET_EXHAUSTED)
    assert [part for part in map(str, told) if part not in task.failure.message] == []


# --- of a task


async def test_a_request_that_fits_to_the_token_is_made_and_one_that_is_a_token_short_is_not() -> None:
    asked = (await reserved(Parts())).tokens_reserved
    for tokens, state in ((asked, TASK_STATE_COMPLETED), (asked - 1, TASK_STATE_FAILED)):
        model = Counted(says("hello"))
        async with started(Parts(model=model, limits=limits(tokens=tokens))) as running:
            task = await running.client.run("hi")
            assert task.state == state
            assert model.asked == (state == TASK_STATE_COMPLETED)
    is_refused(task, "tokens", tokens, f"0 used, and the next request may take {asked}")


async def test_what_was_used_before_counts_and_the_task_ends_with_what_it_has() -> None:
    model = Counted(calls(("double", {"number": 1})))
    async with started(Parts(model=model, tools=[double], limits=limits(tokens=250))) as running:
        task = await running.client.run("for ever")

        is_refused(task, "250")
        used = task.usage.input_tokens + task.usage.output_tokens
        assert used == 15 * model.asked
        assert f"{used} used" in task.failure.message
        # A reply may have 100 tokens, so it was not asked again with less than that left.
        assert used <= 250 - 15


async def test_a_budget_of_cost_is_kept_to_the_nano() -> None:
    asked = (await reserved(Parts(prices=PRICED))).cost_nanos_reserved
    for cost, state in ((asked, TASK_STATE_COMPLETED), (asked - 1, TASK_STATE_FAILED)):
        async with started(Parts(prices=PRICED, limits=limits(cost_nanos=cost))) as running:
            task = await running.client.run("hi")
            assert task.state == state
    is_refused(task, "cost", "0 used")


@pytest.mark.parametrize(("own", "of_agent"), [(40, 0), (40, 5000), (5000, 40)])
async def test_a_request_can_only_ask_for_less_than_its_agent_admits(own: int, of_agent: int) -> None:
    async with started(Parts(limits=limits(tokens=of_agent))) as running:
        is_refused(await running.client.run("hi", tokens_max=own), "tokens is 40")


async def test_a_request_may_bound_its_cost() -> None:
    async with started(Parts(prices=PRICED)) as running:
        is_refused(await running.client.run("hi", cost_nanos_max=9_000), "0.000009")
        assert (await running.client.run("hi", cost_nanos_max=10**9)).state == TASK_STATE_COMPLETED


async def test_cost_cannot_be_bounded_where_no_price_is_known() -> None:
    async with started() as running:
        with pytest.raises(CallError) as refused:
            await running.client.run("hi", cost_nanos_max=5)
        assert [field for field, _ in refused.value.violations] == ["budget.cost_nanos"]


async def test_a_model_without_a_price_is_not_asked_under_a_budget_of_cost() -> None:
    async with started(Parts(limits=limits(cost_nanos=10**9))) as running:
        is_refused(await running.client.run("hi"), "'fake' no price")


async def test_a_negative_budget_is_told_field_by_field() -> None:
    async with started() as running, running.channel() as channel:
        request = pb.RunTaskRequest(task="hi", budget=pb.Budget(tokens=-1, cost_nanos=-1))
        with pytest.raises(grpc.RpcError) as refused:
            await AgentServiceStub(channel).RunTask(request, metadata=(("x-api-key", KEY),))
        violations = CallError.of(refused.value).violations
        assert violations == (("budget.tokens", "must be at least 0"), ("budget.cost_nanos", "must be at least 0"))


async def test_a_budget_is_part_of_what_a_request_id_names() -> None:
    async with started() as running:
        first = await running.client.run("hi", request_id="r", tokens_max=1000)
        assert (await running.client.run("hi", request_id="r", tokens_max=1000)).id == first.id
        with pytest.raises(CallError) as refused:
            await running.client.run("hi", request_id="r", tokens_max=1001)
        assert refused.value.reason == "REQUEST_ID_REUSED"


# --- of a tenant


async def refusal(running: Running) -> tuple[CallError, Any]:
    """How a new task is refused: the error, and the QuotaFailure's first violation."""
    async with running.channel() as channel:
        with pytest.raises(grpc.RpcError) as refused:
            await AgentServiceStub(channel).RunTask(pb.RunTaskRequest(task="hi"), metadata=(("x-api-key", KEY),))
    trailing: Any = refused.value.trailing_metadata()
    quota = details.QuotaFailure()
    for packed in Status.FromString(dict(trailing)["grpc-status-details-bin"]).details:
        packed.Unpack(quota)
    return CallError.of(refused.value), quota.violations[0]


def monthly(*, tokens_max: int | None = None, cost_nanos_max: int | None = None) -> Budget:
    return Budget("monthly", tokens_max=tokens_max, cost_nanos_max=cost_nanos_max)


async def test_a_used_up_budget_refuses_new_tasks_of_its_tenant_until_its_period_ends() -> None:
    async with started(Parts(model=FakeModel(uses(input_tokens=200)), budgets=[monthly(tokens_max=200)])) as running:
        assert (await running.client.run("hi")).state == TASK_STATE_COMPLETED

        error, quota = await refusal(running)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED")
        assert error.metadata["rule"] == "monthly"
        assert (quota.subject, quota.description) == ("tenant:acme", "budget monthly")
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 31 * 86_400
        assert (await running.other_tenant.run("hi")).state == TASK_STATE_COMPLETED


async def test_a_used_up_budget_refuses_no_repetition_and_no_tool() -> None:
    parts = Parts(model=FakeModel(uses(input_tokens=200)), tools=[double], budgets=[monthly(tokens_max=200)])
    async with started(parts) as running:
        first = await running.client.run("hi", request_id="r")
        assert (await running.client.run("hi", request_id="r")).id == first.id
        assert (await running.client.invoke_tool("double", {"number": 2})).output.number_value == 4
        with pytest.raises(CallError):
            await running.client.submit("hi")


async def test_a_request_that_might_exceed_the_tenants_budget_fails_its_task_by_the_budgets_name() -> None:
    asked = (await reserved(Parts())).tokens_reserved
    model = Counted(says("hello"))
    async with started(Parts(model=model, budgets=[monthly(tokens_max=asked)])) as running:
        assert (await running.client.run("hi")).state == TASK_STATE_COMPLETED
        task = await running.client.run("hi")

        is_refused(task, "'monthly'", "tenant:acme", asked, "15 used")
        assert task.failure.retryable
        assert model.asked == 1


async def test_a_budget_of_cost_refuses_what_it_would_cost() -> None:
    asked = (await reserved(Parts(prices=PRICED))).cost_nanos_reserved
    budget = monthly(cost_nanos_max=asked)
    async with started(Parts(prices=PRICED, budgets=[budget])) as running:
        assert (await running.client.run("hi")).state == TASK_STATE_COMPLETED
        is_refused(await running.client.run("hi"), "'monthly'", "cost")


async def test_of_64_tasks_at_once_no_more_ask_than_the_budget_admits(tmp_path: Path) -> None:
    asked = (await reserved(Parts())).tokens_reserved
    release, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def uses_all(_: ModelRequest, observer: ModelObserver) -> ModelReply:
        begun.release()
        await release.wait()
        reply: ModelReply = await uses(input_tokens=asked)(_, observer)
        return reply

    model = Counted(uses_all)
    budget = monthly(tokens_max=10 * asked + asked - 1)
    async with (
        SqliteStore(tmp_path / "journal.db") as store,
        started(Parts(model=model, budgets=[budget], store=store)) as running,
    ):
        tasks = [asyncio.create_task(running.client.run("hi")) for _ in range(64)]
        for _ in range(10):
            await begun.acquire()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        release.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)

        assert model.asked == 10
        done = [task for task in ended if isinstance(task, Task) and task.state == TASK_STATE_COMPLETED]
        assert len(done) == 10
        (row,) = await running.client.get_usage()
        assert row.input_tokens == 10 * asked


async def test_a_request_that_was_canceled_gives_back_what_it_did_not_use() -> None:
    asked = (await reserved(Parts())).tokens_reserved
    model = FakeModel(hangs, says("hello"))
    parts = Parts(model=model, budgets=[monthly(tokens_max=asked + 20)], store=(store := FakeStore()))
    async with started(parts) as running:
        first = await running.client.submit("hi")
        await store.has("model_started")
        is_refused(await running.client.run("hi"), "'monthly'")
        await running.client.cancel(first.id)
        await running.is_quiet()

        assert (await running.client.run("hi")).state == TASK_STATE_COMPLETED


async def test_a_request_that_was_never_sent_gives_back_all_of_it() -> None:
    asked = (await reserved(Parts())).tokens_reserved
    store = FakeStore()
    store.failures = 1
    async with started(Parts(budgets=[monthly(tokens_max=asked)], store=store)) as running:
        with pytest.raises(CallError) as refused:
            await running.client.run("hi")
        assert refused.value.reason == "STORE_UNAVAILABLE"
        assert (await running.client.run("hi")).state == TASK_STATE_COMPLETED


async def test_a_restart_knows_what_was_used_before() -> None:
    parts = Parts(
        model=FakeModel(uses(input_tokens=200)), budgets=[monthly(tokens_max=200)], store=(store := FakeStore())
    )
    async with started(parts) as running:
        await running.client.run("hi")
    async with started(replace(parts, store=store.after_a_crash())) as running:
        error, _ = await refusal(running)
        assert error.reason == "BUDGET_EXHAUSTED"


async def test_one_budget_for_all_is_used_up_by_anybody() -> None:
    shared = replace(monthly(tokens_max=200), per_tenant=False)
    async with started(Parts(model=FakeModel(uses(input_tokens=200)), budgets=[shared])) as running:
        await running.other_tenant.run("hi")
        _, quota = await refusal(running)
        assert quota.subject == "tenant:*"


async def test_a_budget_of_one_tenant_is_nobody_elses() -> None:
    own = replace(monthly(tokens_max=200), tenant="globex")
    async with started(Parts(model=FakeModel(uses(input_tokens=200)), budgets=[own])) as running:
        for _ in range(2):
            await running.client.run("hi")
        await running.other_tenant.run("hi")
        with pytest.raises(CallError):
            await running.other_tenant.run("hi")

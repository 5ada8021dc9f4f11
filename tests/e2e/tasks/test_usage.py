"""What callers are told of what they used, and that it is what the journals say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent_service.client import AsyncClient
from agent_service.engine.attempt import model_turn
from agent_service.errors import LLMError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.llm.price import Price
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import FINISH_REASON_STOP
from agent_service.v1.task_pb2 import TASK_STATE_CANCELED, TASK_STATE_COMPLETED, TASK_STATE_FAILED, Usage
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Step, calls, says, started

# A tenth, a hundredth and half a unit for a million tokens.
PRICE = Price(input=100_000_000, cached_input=10_000_000, output=500_000_000)
PRICED = {"fake": PRICE}


def uses(**usage: int | bool) -> Step:
    """A step that answers, and says what that took."""

    async def step(_: ModelRequest, __: ModelObserver) -> ModelReply:
        told = Usage(**usage)  # type: ignore[arg-type] # the fields of Usage
        return ModelReply("done", [], FINISH_REASON_STOP, told, "fake-1")

    return step


async def hangs(_: ModelRequest, observer: ModelObserver) -> ModelReply:
    observer.text("I have begun")
    await asyncio.Event().wait()
    raise AssertionError


class Adapter:
    """A model below the retries."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        reply: ModelReply = await self._steps.pop(0)(request, observer)
        return reply


def fails(usage: Usage | None) -> Step:
    async def step(_: ModelRequest, __: ModelObserver) -> ModelReply:
        raise LLMError(reasons.ERROR_REASON_LLM_UNAVAILABLE, "status 503", retryable=True, usage=usage)

    return step


@tool(side_effect="read_only")
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


async def only_row(client: AsyncClient) -> pb.UsageRow:
    (row,) = await client.get_usage()
    return row


async def test_a_run_is_counted_with_its_cached_and_reasoning_tokens_and_what_it_cost() -> None:
    model = FakeModel(uses(input_tokens=1_000, cached_input_tokens=400, output_tokens=200, reasoning_tokens=50))
    async with started(Parts(model=model, prices=PRICED)) as running:
        task = await running.client.run("hi")

        # 600 x 0.1 + 400 x 0.01 + 200 x 0.5, for a million: 0.000164 units
        assert task.usage.cost_nanos == 164_000
        assert await only_row(running.client) == pb.UsageRow(
            tasks=1,
            model_calls=1,
            input_tokens=1_000,
            cached_input_tokens=400,
            output_tokens=200,
            reasoning_tokens=50,
            cost_nanos=164_000,
        )


async def test_a_cost_is_rounded_once_a_request_and_half_up() -> None:
    price = Price(input=500_000, cached_input=500_000, output=499_999)
    model = FakeModel(uses(input_tokens=1), uses(output_tokens=1), uses(input_tokens=3))
    async with started(Parts(model=model, prices={"fake": price})) as running:
        costs = [(await running.client.run("hi")).usage.cost_nanos for _ in range(3)]

        assert costs == [1, 0, 2]
        assert (await only_row(running.client)).cost_nanos == 3


async def test_a_model_without_a_price_costs_nothing_that_is_known_and_its_calls_say_so() -> None:
    async with started() as running:
        task = await running.client.run("hi")

        assert not task.usage.HasField("cost_nanos")
        row = await only_row(running.client)
        assert (row.cost_nanos, row.model_calls, row.unpriced_calls) == (0, 1, 1)


async def test_a_model_that_is_free_is_not_one_without_a_price() -> None:
    async with started(Parts(prices={"fake": Price(0, 0, 0)})) as running:
        task = await running.client.run("hi")

        assert task.usage.HasField("cost_nanos")
        assert (await only_row(running.client)).unpriced_calls == 0


async def test_every_try_is_charged_what_it_used_and_an_estimate_is_told_as_one() -> None:
    cut_off = Usage(input_tokens=30, output_tokens=7, estimated=True)
    adapter = Adapter(fails(None), fails(cut_off), uses(input_tokens=30, output_tokens=10))
    model = Retrying(adapter, "fake", RetryBudget(), base_delay_s=0)
    async with started(Parts(model=model, prices=PRICED)) as running:
        task = await running.client.run("hi")

        assert task.state == TASK_STATE_COMPLETED
        assert await only_row(running.client) == pb.UsageRow(
            tasks=1,
            model_calls=3,
            input_tokens=60,
            output_tokens=17,
            cost_nanos=60 * 100 + 17 * 500,
            estimated_calls=1,
            estimated_tokens=37,
            estimated_cost_nanos=30 * 100 + 7 * 500,
        )
        assert task.usage.cost_nanos == 60 * 100 + 17 * 500


async def test_a_task_that_is_canceled_in_the_middle_of_a_turn_is_charged_what_was_written_as_an_estimate() -> None:
    async with started(Parts(model=FakeModel(hangs), prices=PRICED, store=(store := FakeStore()))) as running:
        task = await running.client.submit("hi")
        await store.has("model_started")
        await running.client.cancel(task.id)
        await running.is_quiet()

        task = await running.client.get_task(task.id)
        assert task.state == TASK_STATE_CANCELED
        row = await only_row(running.client)
        assert row.estimated_calls == row.model_calls == 1
        assert row.estimated_tokens == row.input_tokens + row.output_tokens > 0
        assert row.output_tokens == 4  # of the 12 bytes that it wrote
        assert row.estimated_cost_nanos == row.cost_nanos == task.usage.cost_nanos


async def test_a_request_that_a_crash_cut_off_is_charged_what_was_reserved_as_an_estimate() -> None:
    parts = Parts(model=FakeModel(hangs), prices=PRICED, store=(store := FakeStore()))
    async with started(parts) as running:
        task_id = (await running.client.submit("hi")).id
        await store.has("model_started")
        left = store.after_a_crash()
    async with started(replace(parts, model=FakeModel(uses(input_tokens=3, output_tokens=1)), store=left)) as running:
        await running.is_quiet()

        task = await running.client.get_task(task_id)
        assert task.state == TASK_STATE_COMPLETED
        events = await left.read(task_id)
        first = next(event.model_started for event in events if event.HasField("model_started"))
        lost = next(event for event in events if event.HasField("model_failed"))
        assert (lost.attempt, lost.model_failed.try_number) == (1, 1)
        assert lost.model_failed.failure.reason == reasons.ERROR_REASON_STOPPED
        row = await only_row(running.client)
        assert row.model_calls == 2
        assert row.estimated_tokens == first.tokens_reserved > 100
        assert row.estimated_cost_nanos == first.cost_nanos_reserved > 0
        assert row.input_tokens + row.output_tokens == first.tokens_reserved + 4
        assert task.usage.cost_nanos == row.cost_nanos


async def test_a_model_adapter_that_breaks_is_charged_for_what_it_wrote() -> None:
    async def breaks(_: ModelRequest, observer: ModelObserver) -> ModelReply:
        observer.text("some words")
        raise ValueError

    async with started(Parts(model=FakeModel(breaks), prices=PRICED)) as running:
        task = await running.client.run("hi")

        assert task.failure.reason == reasons.ERROR_REASON_INTERNAL
        row = await only_row(running.client)
        assert row.output_tokens == 4
        assert row.estimated_calls == 1
        assert "model_failed" in await running.journal(task.id)


async def test_a_reply_that_is_too_long_to_be_kept_is_charged_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_turn, "REPLY_BYTES_MAX", 3)
    async with started(Parts(model=FakeModel(uses(input_tokens=5, output_tokens=9)), prices=PRICED)) as running:
        task = await running.client.run("hi")

        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_LLM_REJECTED)
        row = await only_row(running.client)
        assert (row.input_tokens, row.output_tokens, row.estimated_calls) == (5, 9, 0)
        assert task.usage.cost_nanos == row.cost_nanos


async def test_tool_calls_count_for_the_model_that_asked_for_them_and_direct_ones_for_none() -> None:
    model = FakeModel(calls(("double", {"number": 1}), ("double", {"number": 2})), says("done"))
    async with started(Parts(model=model, tools=[double])) as running:
        await running.client.run("twice")
        await running.client.invoke_tool("double", {"number": 3})

        rows = await running.client.get_usage(by=["agent", "model"])
        told = [(row.agent, row.model, row.tasks, row.tool_calls, row.model_calls) for row in rows]
        assert told == [("assistant", "fake", 1, 2, 2), ("double", "", 1, 1, 0)]


async def test_usage_outlives_its_task() -> None:
    async with started() as running:
        task = await running.client.run("hi")
        before = await only_row(running.client)
        await running.client.delete_task(task.id)

        assert await only_row(running.client) == before


async def test_the_bill_of_a_tenant_is_the_sum_of_its_tasks_whatever_became_of_them() -> None:
    """Whoever reads the journals of a tenant's tasks finds the same sums."""
    outcomes = [
        uses(input_tokens=11, output_tokens=3, cached_input_tokens=5),
        calls(("double", {"number": 1})),
        fails(Usage(input_tokens=9, output_tokens=1, estimated=True)),
        hangs,
        uses(input_tokens=2, estimated=True),
    ]
    turn = iter(range(10**6))

    async def step(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        reply: ModelReply = await outcomes[next(turn) % len(outcomes)](request, observer)
        return reply

    model = Retrying(Adapter(*[step] * 1000), "fake", RetryBudget(), base_delay_s=0)
    async with started(Parts(model=model, tools=[double], prices=PRICED, timeout_s=0.5)) as running:
        both = (running.client, running.other_tenant)
        await asyncio.gather(*(client.run(f"task {n}") for n in range(15) for client in both))

        for client in both:
            shown = [task.usage for task in (await client.list_tasks(page_size=200)).tasks]
            assert len(shown) == 15
            row = await only_row(client)
            for field in (
                "input_tokens",
                "cached_input_tokens",
                "output_tokens",
                "model_calls",
                "tool_calls",
                "cost_nanos",
            ):
                assert getattr(row, field) == sum(getattr(usage, field) for usage in shown)
            assert 0 < row.estimated_calls < row.model_calls

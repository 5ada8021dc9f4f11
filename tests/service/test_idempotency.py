"""A request_id names a task: the same request again, by whichever method, finds it and starts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Any

import pytest

from agent_service.client import CallError
from agent_service.journal import append_rule
from agent_service.limits.base import Rule
from agent_service.server.methods import SERVICE
from agent_service.service import requests
from agent_service.service.catalog import Catalog
from agent_service.service.service import ServiceOptions
from agent_service.tools.decorator import tool
from agent_service.tools.registry import ToolRegistry
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.task_pb2 import ON_DISCONNECT_DETACH, TASK_STATE_COMPLETED, Task
from tests.fakes.crashes import left_by_a_crash
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Running, says, started
from tests.service.worlds import Gate, request, stub, until


async def streamed(running: Running, **options: Any) -> Task:
    async with aclosing(running.client.stream("go", **options)) as events:
        seen = [event async for event in events]
    journaled = [event.sequence for event in seen if not event.HasField("text_delta")]
    assert journaled == list(range(1, len(journaled) + 1))
    return await running.client.get_task(seen[-1].task_id)


async def submitted(running: Running, **options: Any) -> Task:
    task = await running.client.submit("go", **options)
    async for _ in running.client.watch(task.id):
        pass
    return await running.client.get_task(task.id)


async def test_64_duplicates_at_once_are_one_task_by_whichever_method_they_come() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        methods = (running.client.run, lambda _, **o: streamed(running, **o), lambda _, **o: submitted(running, **o))
        calls = [asyncio.ensure_future(methods[n % 3]("go", request_id="r1")) for n in range(64)]
        await gate.holds()
        gate.open()
        tasks = await asyncio.gather(*calls)
        listed = await running.client.list_tasks()
    assert len({task.id for task in tasks}) == 1
    assert {(task.state, task.output) for task in tasks} == {(TASK_STATE_COMPLETED, "hello")}
    assert len(listed.tasks) == gate.asked == 1


async def test_64_duplicates_of_a_tool_call_run_the_tool_once_and_all_get_its_result() -> None:
    ran: list[str] = []

    @tool(side_effect="read_only")
    async def count(name: str) -> int:
        """Counts its runs."""
        ran.append(name)
        await asyncio.sleep(0)
        return len(ran)

    async with started(Parts(tools=[count])) as running:
        call = running.client.invoke_tool
        answers = await asyncio.gather(*(call("count", {"name": "x"}, request_id="r1") for _ in range(64)))
    assert {(answer.output.number_value, answer.task_id) for answer in answers} == {(1.0, answers[0].task_id)}
    assert ran == ["x"]


async def test_a_duplicate_of_a_task_that_is_over_gets_what_came_of_it() -> None:
    model = FakeModel(says("first"), says("second"))
    async with started(Parts(model=model)) as running:
        first = await running.client.run("go", request_id="r1")
        again = await running.client.run("go", request_id="r1")
        assert again == first
        assert (await streamed(running, request_id="r1")).output == "first"
    assert len(model.requests) == 1


async def test_a_repetition_gets_its_result_after_a_reload_that_removed_its_tool_or_agent() -> None:
    @tool(side_effect="read_only")
    def twice(number: int) -> int:
        """Doubles a number."""
        return 2 * number

    async with started(Parts(tools=[twice])) as running:
        client = running.client
        invoked = await client.invoke_tool("twice", {"number": 4}, request_id="r1")
        ran = await client.run("go", agent="assistant", request_id="r2", timeout_s=20)
        running.service.runtimes.catalog = Catalog([], ToolRegistry(), default_agent="other")
        again = await client.invoke_tool("twice", {"number": 4}, request_id="r1")
        assert (again.task_id, again.output.number_value) == (invoked.task_id, 8)
        assert await client.run("go", agent="assistant", request_id="r2", timeout_s=20) == ran
        assert await streamed(running, agent="assistant", request_id="r2") == ran
        for new in ("", "r3"):
            with pytest.raises(CallError, match="TOOL_NOT_FOUND"):
                await client.invoke_tool("twice", {"number": 4}, request_id=new)
            with pytest.raises(CallError, match="AGENT_NOT_FOUND"):
                await client.run("go", agent="assistant", request_id=new)


@pytest.mark.parametrize(
    "other",
    [
        {"task": "else"},
        {"agent": "assistant"},
        {"session_id": "s"},
        {"labels": {"a": "b"}},
    ],
)
async def test_the_same_id_with_other_content_is_refused_and_names_the_task(other: dict[str, Any]) -> None:
    async with started() as running, stub(running) as (calls, metadata):
        first = (await calls.RunTask(request(request_id="r1"), metadata=metadata)).task
        with pytest.raises(CallError) as refused:
            await running.client.run(other.pop("task", "go"), request_id="r1", **other)
        assert (refused.value.code, refused.value.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert refused.value.metadata == {"request_id": "r1", "task_id": first.id}


async def test_a_tool_call_and_a_task_do_not_share_an_id() -> None:
    @tool(side_effect="read_only")
    def look() -> str:
        """Looks."""
        return "seen"

    async with started(Parts(tools=[look])) as running:
        await running.client.run("go", request_id="r1")
        with pytest.raises(CallError, match="REQUEST_ID_REUSED"):
            await running.client.invoke_tool("look", request_id="r1")


async def test_timeout_and_on_disconnect_are_no_content_and_those_of_the_first_stand() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        first = await running.client.submit("go", request_id="r1", timeout_s=20)
        again = await running.client.submit("go", request_id="r1", timeout_s=1, detached=True)
        assert (again.id, again.deadline) == (first.id, first.deadline)
        gate.open()
        await running.is_quiet()


async def test_arguments_in_another_order_are_the_same_content() -> None:
    @tool(side_effect="read_only")
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    async with started(Parts(tools=[add])) as running:
        first = await running.client.invoke_tool("add", '{"a": 1, "b": 2}', request_id="r1")
        again = await running.client.invoke_tool("add", '{"b":2,"a":1}', request_id="r1")
        assert again == first


async def test_ids_of_two_tenants_do_not_meet() -> None:
    async with started() as running:
        ours = await running.client.run("go", request_id="r1")
        theirs = await running.other_tenant.run("go", request_id="r1")
        assert ours.id != theirs.id


async def test_an_id_is_free_again_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with started() as running:
        first = await running.client.run("go", request_id="r1")
        monkeypatch.setattr(append_rule, "REQUEST_ID_US", 0)
        again = await running.client.run("something else", request_id="r1")
        assert again.id != first.id
    assert append_rule.REQUEST_ID_S == 24 * 3600


async def test_a_duplicate_is_not_charged_as_work_and_no_full_limit_refuses_it() -> None:
    once = Rule("one-of-the-agent", agent="assistant", calls_max=1, window_s=3600)
    async with started(Parts(rules=[once])) as running:
        first = await running.client.run("go", request_id="r1")
        assert (await running.client.run("go", request_id="r1")).id == first.id
        with pytest.raises(CallError, match="RATE_LIMITED_CALLS"):
            await running.client.run("go", request_id="r2")


async def test_no_overload_refuses_a_duplicate() -> None:
    gate = Gate()
    options = ServiceOptions(queued_max=1)
    async with started(Parts(model=FakeModel(gate.step), running_max=1, options=options)) as running:
        client = running.client
        first = asyncio.ensure_future(client.run("go", request_id="r1"))
        await gate.holds()
        queued = await client.submit("go", request_id="r2")
        for more in (client.run("go", request_id="r3"), client.submit("go", request_id="r3")):
            with pytest.raises(CallError) as refused:
                await more
            assert refused.value.reason == "OVERLOADED"
        again = [asyncio.ensure_future(client.run("go", request_id=one)) for one in ("r1", "r2")]
        assert (await client.submit("go", request_id="r2")).id == queued.id
        gate.open()
        tasks = await asyncio.gather(*again)
        assert [task.id for task in tasks] == [(await first).id, queued.id]


async def test_a_duplicate_waits_for_the_same_end_and_its_going_does_not_take_the_task_along() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running, stub(running) as (calls, metadata):
        first = calls.RunTask(request(request_id="r1"), metadata=metadata)
        await gate.holds()
        second = calls.RunTask(request(request_id="r1"), metadata=metadata)
        second.cancel()
        gate.open()
        task = (await first).task
    assert task.state == TASK_STATE_COMPLETED


async def test_a_duplicate_finds_its_task_however_many_run_and_wait() -> None:
    gate, options = Gate(), ServiceOptions(queued_max=1)
    async with started(Parts(model=FakeModel(gate.step), running_max=1, options=options)) as running:
        first = asyncio.ensure_future(running.client.run("go", request_id="runs"))
        await gate.holds()
        waits = await running.client.submit("go", request_id="waits")
        with pytest.raises(CallError, match="OVERLOADED"):
            await running.client.submit("go", request_id="new")

        again = asyncio.ensure_future(running.client.run("go", request_id="runs"))
        assert (await running.client.submit("go", request_id="waits")).id == waits.id
        await until(lambda: sum(running.service.callers._counts.values()) == 2)
        gate.open()
        assert await first == await again


async def test_64_duplicates_that_come_while_the_first_is_stored_take_one_place_and_one_share() -> None:
    store, gate = FakeStore(), Gate()
    once = Rule("one-of-the-agent", agent="assistant", calls_max=1, window_s=3600)
    async with started(Parts(model=FakeModel(gate.step), store=store, running_max=1, rules=[once])) as running:
        store.hold()
        calls = [asyncio.ensure_future(running.client.run("go", request_id="r1")) for _ in range(64)]
        begun = running.metrics.rpc_started(f"/{SERVICE}/RunTask")
        await until(lambda: begun.value == 64)
        store.release()
        await until(lambda: sum(running.service.callers._counts.values()) == 64)
        gate.open()
        tasks = await asyncio.gather(*calls)
    assert {(task.id, task.output) for task in tasks} == {(tasks[0].id, "hello")}


async def test_a_duplicate_after_a_crash_between_accepting_and_answering_attaches_to_the_task() -> None:
    def run(running: Running) -> Awaitable[Task]:
        return running.client.run("go", request_id="r1")

    task_id, left = await left_by_a_crash(Parts(model=FakeModel(Gate().step)), run, "submitted")
    async with started(Parts(store=left)) as running:
        again = await run(running)
        assert (again.id, again.output, again.attempt) == (task_id, "hello", 2)
        assert len((await running.client.list_tasks()).tasks) == 1


async def test_the_log_line_of_a_call_and_of_its_task_carry_the_id() -> None:
    async with started() as running:
        await running.client.run("go", request_id="order-17")
        await running.is_quiet()
        lines = [line for line in running.log if line.get("idempotency_key") == "order-17"]
    assert {line["event"] for line in lines} == {"rpc", "task"}


def test_the_digest_covers_all_that_is_content_in_a_stated_order() -> None:
    whole = requests.RunTaskInput(task="go", agent="a", session_id="s", labels={"x": "1", "y": "2"}, request_id="r")
    other_order = requests.RunTaskInput(task=" go ", agent="a", session_id="s", labels={"y": "2", "x": "1"}, timeout=5)
    detached = whole.model_copy(update={"on_disconnect": ON_DISCONNECT_DETACH})
    assert whole.digest() == other_order.digest() == detached.digest()
    assert len(whole.digest()) == 32
    moved = requests.RunTaskInput(task="go", agent="s", session_id="a", labels={"x": "1", "y": "2"})
    assert moved.digest() != whole.digest()


async def test_an_id_that_breaks_its_bounds_is_told_by_its_field() -> None:
    async with started() as running, stub(running) as (calls, metadata):
        for message, method in (
            (request(request_id="r 1"), calls.RunTask),
            (pb.SubmitTaskRequest(run=request(request_id="x" * 129)), calls.SubmitTask),
        ):
            with pytest.raises(Exception, match="request_id"):
                await method(message, metadata=metadata)

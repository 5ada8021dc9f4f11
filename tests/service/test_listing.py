"""Lists of tasks: filters, pages, and what they show."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from agent_service.client import CallError
from agent_service.errors import LLMError
from agent_service.keys.base import Principal, Scope
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.service import reading
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED, TASK_STATE_WORKING, Task
from tests.harness import FakeModel, Parts, Running, TestKeys, calls, says, started
from tests.service.worlds import Gate, stub


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


async def listed(running: Running, **wanted: Any) -> pb.ListTasksResponse:
    async with stub(running) as (methods, metadata):
        response: pb.ListTasksResponse = await methods.ListTasks(pb.ListTasksRequest(**wanted), metadata=metadata)
        return response


async def ran(running: Running, *texts: str, **options: Any) -> list[Task]:
    return [await running.client.run(text, **options) for text in texts]


def names(response: pb.ListTasksResponse) -> list[str]:
    return [task.task for task in response.tasks]


async def test_pages_are_newest_first_and_whole_whatever_comes_in_between() -> None:
    async with started() as running:
        await ran(running, *(f"t{number}" for number in range(7)))
        first = await listed(running, page_size=3, view=pb.TASK_VIEW_FULL)
        await ran(running, "meanwhile")
        second = await listed(running, page_size=3, view=pb.TASK_VIEW_FULL, page_token=first.next_page_token)
        third = await listed(running, page_size=3, view=pb.TASK_VIEW_FULL, page_token=second.next_page_token)
    assert names(first) + names(second) + names(third) == ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]
    assert third.next_page_token == ""


async def test_a_page_has_50_tasks_unless_asked_and_200_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (reading.PAGE_SIZE_DEFAULT, reading.PAGE_SIZE_MAX) == (50, 200)
    monkeypatch.setattr(reading, "PAGE_SIZE_DEFAULT", 2)
    monkeypatch.setattr(reading, "PAGE_SIZE_MAX", 4)
    async with started() as running:
        await ran(running, *"abcdef")
        assert len((await listed(running)).tasks) == 2
        assert len((await listed(running, page_size=100)).tasks) == 4
        with pytest.raises(Exception, match="page_size"):
            await listed(running, page_size=-1)


async def test_a_token_of_another_list_is_refused() -> None:
    async with started() as running:
        await ran(running, *"abc")
        token = (await listed(running, page_size=1)).next_page_token
        for wrong in ({"page_token": "nonsense"}, {"page_token": token, "agent": "assistant"}):
            with pytest.raises(Exception, match="page_token"):
                await listed(running, page_size=1, **wrong)
        assert len((await listed(running, page_size=2, page_token=token)).tasks) == 2


async def test_texts_are_shown_only_where_they_are_asked_for() -> None:
    async with started() as running:
        (task,) = await ran(running, "go", labels={"a": "b"})
        (basic,) = (await listed(running)).tasks
        (full,) = (await listed(running, view=pb.TASK_VIEW_FULL)).tasks
    assert full == task
    assert (basic.task, basic.output) == ("", "")
    basic.task, basic.output = task.task, task.output
    assert basic == task


async def test_a_page_of_long_texts_ends_early_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading.PAGE_BYTES_MAX == 3 * 1024 * 1024
    monkeypatch.setattr(reading, "PAGE_BYTES_MAX", 5000)
    async with started(Parts(model=FakeModel(says("x" * 2000)))) as running:
        await ran(running, *"abcde")
        pages, token = [], ""
        while True:
            page = await listed(running, view=pb.TASK_VIEW_FULL, page_token=token)
            pages.append(names(page))
            token = page.next_page_token
            if not token:
                break
    assert pages == [["e", "d"], ["c", "b"], ["a"]]


async def test_a_page_of_long_journals_ends_early_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading.PAGE_EVENTS_MAX == 10_000
    monkeypatch.setattr(reading, "PAGE_EVENTS_MAX", 13)
    model = FakeModel(*[calls(("look", {}))] * 5, says("ended"))
    async with started(Parts(model=model, tools=[look], needs_approval=["look"])) as running:
        waiting = await ran(running, *"abcde")
        assert {task.last_sequence for task in waiting} == {5}
        await ran(running, *"fghi")
        pages, token = [], ""
        while True:
            page = await listed(running, view=pb.TASK_VIEW_FULL, page_token=token)
            pages.append("".join(names(page)))
            token = page.next_page_token
            if not token:
                break
    assert pages == ["ihgfed", "cb", "a"]


async def test_a_page_that_took_long_to_look_for_ends_early_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "WALKED_MAX", 2)
    monkeypatch.setattr(reading, "LOOK_S", 0.0)
    model = FakeModel(*(says("hello") for _ in range(2)), fails, says("hello"))
    async with started(Parts(model=model)) as running:
        client = running.client
        tasks = [await client.run("go") for _ in range(9)]
        failed = [task.id for task in tasks if task.state == TASK_STATE_FAILED]
        assert len(failed) == 1
        found, token, pages = list[str](), "", 0
        while token or not pages:
            page = await client.list_tasks(states=[TASK_STATE_FAILED], page_token=token)
            found, token, pages = found + [task.id for task in page.tasks], page.next_page_token, pages + 1
        assert found == failed
        assert pages >= 4


async def fails(_: ModelRequest, __: ModelObserver) -> ModelReply:
    raise LLMError(ERROR_REASON_LLM_REJECTED, "no")


async def test_a_key_of_an_operator_sees_whose_tasks_it_asks_for() -> None:
    operator = Principal("operator", "operators", frozenset(Scope))
    async with started(Parts(keys=TestKeys({"operators-key": operator}))) as running:
        await ran(running, "ours")
        await running.other_tenant.run("theirs")

        async def found(**wanted: Any) -> list[str]:
            async with stub(running, "operators-key") as (methods, metadata):
                wanted = {"view": pb.TASK_VIEW_FULL, **wanted}
                response: pb.ListTasksResponse = await methods.ListTasks(
                    pb.ListTasksRequest(**wanted), metadata=metadata
                )
                if response.next_page_token and wanted.get("tenant") == "*":
                    with pytest.raises(Exception, match="page_token"):
                        await found(page_size=1, tenant="acme", page_token=response.next_page_token)
                return names(response)

        assert await found() == []
        assert await found(tenant="acme") == ["ours"]
        assert await found(tenant="globex") == ["theirs"]
        assert await found(tenant="*") == ["theirs", "ours"]
        assert await found(tenant="*", page_size=1) == ["theirs"]
        assert await found(tenant="nobody") == []


async def test_every_filter_narrows_and_they_narrow_together() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(says("ok"), says("ok"), says("ok"), gate.step))) as running:
        await ran(running, "plain")
        await ran(running, "labeled", labels={"env": "test", "team": "a"})
        await ran(running, "in session", session_id="s", labels={"env": "test"})
        between = (await running.client.list_tasks()).tasks[0].create_time
        going = asyncio.ensure_future(running.client.run("going", session_id="s"))
        await gate.holds()

        async def found(**wanted: Any) -> list[str]:
            return names(await listed(running, view=pb.TASK_VIEW_FULL, **wanted))

        assert await found(labels={"env": "test"}) == ["in session", "labeled"]
        assert await found(labels={"env": "test", "team": "a"}) == ["labeled"]
        assert await found(session_id="s") == ["going", "in session"]
        assert await found(session_id="s", states=[TASK_STATE_WORKING]) == ["going"]
        assert await found(states=[TASK_STATE_COMPLETED, TASK_STATE_FAILED]) == ["in session", "labeled", "plain"]
        assert await found(created_since=between) == ["going", "in session"]
        assert await found(created_before=between) == ["labeled", "plain"]
        assert await found(agent="assistant", labels={"team": "b"}) == []
        assert await found(agent="another") == []
        gate.open()
        await going


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"states": [99]}, "states"),
        ({"agent": "no agent"}, "agent"),
        ({"session_id": "no session"}, "session_id"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"x": "y" * 257}}, "labels"),
        ({"page_token": "x" * 257}, "page_token"),
    ],
)
async def test_what_breaks_a_bound_is_told_by_its_field(wanted: dict[str, Any], field: str) -> None:
    async with started() as running:
        with pytest.raises(Exception, match=field):
            await listed(running, **wanted)


async def test_other_tenants_tasks_take_the_scope_admin() -> None:
    async with started() as running:
        await ran(running, "ours")
        for tenant in ("globex", "*"):
            with pytest.raises(Exception, match="admin"):
                await listed(running, tenant=tenant)
        assert len((await listed(running, tenant="acme")).tasks) == 1


async def test_a_task_that_runs_is_shown_as_it_stands() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        going = asyncio.ensure_future(running.client.run("go"))
        await gate.holds()
        (task,) = (await listed(running)).tasks
        assert (task.state, task.attempt, task.usage.model_calls) == (TASK_STATE_WORKING, 1, 1)
        with pytest.raises(CallError, match="TASK_NOT_TERMINAL"):
            await running.client.delete_task(task.id)
        gate.open()
        await going


@pytest.mark.parametrize("field", ["created_since", "created_before"])
@pytest.mark.parametrize("time", [Timestamp(nanos=-1), Timestamp(nanos=10**9), Timestamp(seconds=2**63 - 1)])
async def test_a_time_that_is_none_is_told(field: str, time: Timestamp) -> None:
    async with started() as running:
        with pytest.raises(aio.AioRpcError) as refused:
            await listed(running, **{field: time})
        told = CallError.of(refused.value)
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        assert told.violations == ((field, "must be a time of the years 1 to 9999"),)

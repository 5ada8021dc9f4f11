"""DeleteTask and DeleteSession erase what is over, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.keys.base import Principal, Scope
from agent_service.tools.decorator import tool
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_INPUT_REQUIRED
from tests.harness import FakeModel, Parts, TestKeys, calls, says, started


@tool(side_effect="side_effecting")
async def pay() -> str:
    """Pays."""
    return "paid"


def parts() -> Parts:
    """The first task waits for approval; later ones are answered at once."""
    return Parts(model=FakeModel(calls(("pay", {})), says("hello")), tools=[pay], needs_approval=["pay"])


async def test_a_task_that_has_ended_is_erased_with_all_that_it_did() -> None:
    async with started() as running:
        task = await running.client.run("hi", request_id="r")
        await running.client.delete_task(task.id)
        for look in (running.client.get_task, running.client.cancel, running.client.delete_task):
            with pytest.raises(CallError, match="TASK_NOT_FOUND"):
                await look(task.id)
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            async for _ in running.client.watch(task.id):
                pass
        assert await running.store.read(task.id) == []
        assert list((await running.client.list_tasks()).tasks) == []
        # Its request_id is free again.
        again = await running.client.run("hi", request_id="r")
        assert again.id != task.id


async def test_a_task_that_has_not_ended_is_not_erased() -> None:
    async with started(parts()) as running:
        task = await running.client.run("go")
        assert task.state == TASK_STATE_INPUT_REQUIRED
        with pytest.raises(CallError) as refused:
            await running.client.delete_task(task.id)
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "TASK_NOT_TERMINAL")
        assert refused.value.metadata == {"task_id": task.id, "state": "INPUT_REQUIRED"}
        assert await running.client.get_task(task.id) == task
        await running.client.cancel(task.id)
        await running.client.delete_task(task.id)


async def test_another_tenants_task_or_session_is_not_there() -> None:
    async with started() as running:
        task = await running.client.run("hi", session_id="s")
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await running.other_tenant.delete_task(task.id)
        with pytest.raises(CallError) as refused:
            await running.other_tenant.delete_session("s")
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
        assert (await running.client.get_task(task.id)).state == TASK_STATE_COMPLETED


async def test_a_session_is_erased_as_a_whole_and_begins_anew() -> None:
    model = FakeModel(says("hello"))
    async with started(Parts(model=model)) as running:
        first = await running.client.run("first", session_id="s")
        await running.client.run("second", session_id="s")
        other = await running.client.run("third", session_id="t")
        theirs = await running.other_tenant.run("theirs", session_id="s")
        assert await running.client.delete_session("s") == 2
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await running.client.get_task(first.id)
        with pytest.raises(CallError, match="SESSION_NOT_FOUND"):
            await running.client.delete_session("s")
        assert (await running.client.get_task(other.id)).session_id == "t"
        assert (await running.other_tenant.get_task(theirs.id)).session_id == "s"
        await running.client.run("again", session_id="s")
        assert [message.text for message in model.requests[-1].messages] == ["again"]


async def test_a_session_with_an_unfinished_task_is_left_whole() -> None:
    async with started(parts()) as running:
        waiting = await running.client.run("go", session_id="s")
        behind = await running.client.submit("next", session_id="s")
        with pytest.raises(CallError) as refused:
            await running.client.delete_session("s")
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "SESSION_BUSY")
        assert refused.value.metadata == {"session_id": "s", "unfinished": "2"}
        await running.client.cancel(waiting.id)
        async with asyncio.timeout(30):
            async for _ in running.client.watch(behind.id):
                pass
        assert await running.client.delete_session("s") == 2


async def test_a_session_id_that_is_none_is_refused_by_its_field() -> None:
    async with started() as running:
        for malformed in ("", "no such id!", "x" * 129):
            with pytest.raises(CallError) as refused:
                await running.client.delete_session(malformed)
            assert [violation[0] for violation in refused.value.violations] == ["session_id"]


async def test_to_erase_takes_a_scope_of_its_own() -> None:
    scopes = frozenset(Scope) - {Scope.TASKS_DELETE, Scope.ADMIN}
    keys = TestKeys({"k": Principal("acme", "k", scopes)})
    async with started(Parts(keys=keys)) as running, AsyncClient(running.target, api_key="k") as key:
        task = await key.run("hi", session_id="s")
        for refused_call in (key.delete_task(task.id), key.delete_session("s")):
            with pytest.raises(CallError) as refused:
                await refused_call
            assert (refused.value.reason, refused.value.metadata) == ("SCOPE_MISSING", {"scope": "tasks.delete"})

"""What one tenant does to itself, it does not do to others."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from agent_service.client import AsyncClient
from agent_service.service import reading
from agent_service.store.base import TaskPage, TaskQuery
from agent_service.tools.decorator import tool
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_TIMEOUT
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Task
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, calls, says, started
from tests.service.worlds import until

# Twice as many as run at once.
STUCK = 8


@pytest.fixture
def never() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_sync_tools_of_others_run_while_one_tenant_has_stuck_ones(never: threading.Event) -> None:
    @tool(side_effect="read_only", timeout_s=0.1)
    def fetch() -> str:
        """A library call without a timeout, to a host that does not answer."""
        never.wait()
        return ""

    @tool(side_effect="read_only")
    def hello() -> str:
        """Greets."""
        return "hello"

    async with started(Parts(tools=[fetch, hello], tool_threads_max=4)) as running:
        refused = False
        while not refused:
            stuck = await asyncio.gather(*(running.client.invoke_tool("fetch", {}) for _ in range(STUCK)))
            assert {answer.error.reason for answer in stuck} == {ERROR_REASON_TOOL_TIMEOUT}
            refused = any("too many earlier calls" in answer.error.message for answer in stuck)
            answer = await running.other_tenant.invoke_tool("hello", {}, timeout_s=20)
            assert answer.output.string_value == "hello"
        assert await running.server.readiness.check()


class HeldStore(FakeStore):
    """Lists, reads journals and erases while its gate is open. `most` says how much of that each tenant had at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        await self._pass(query.tenant or "")
        return await super().list_tasks(query)

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        await self._pass(self._tenant_of(task_id))
        return await super().read(task_id, after_sequence=after_sequence, limit=limit)

    async def erase(self, task_id: str) -> bool:
        await self._pass(self._tenant_of(task_id))
        return await super().erase(task_id)

    async def erase_session(self, tenant: str, session_id: str) -> int:
        await self._pass(tenant)
        return await super().erase_session(tenant, session_id)

    def _tenant_of(self, task_id: str) -> str:
        return self._journals[task_id].origin.tenant

    async def _pass(self, tenant: str) -> None:
        self.inside[tenant] += 1
        self.most |= self.inside
        await self.gate.wait()
        self.inside[tenant] -= 1


COSTLY: dict[str, Callable[[AsyncClient, Task], Awaitable[Any]]] = {
    "lists": lambda client, _: client.list_tasks(),
    "long journals": lambda client, task: client.get_task(task.id),
    "erasures": lambda client, task: client.delete_task(task.id),
    "erasures of sessions": lambda client, task: client.delete_session(task.session_id),
}


@pytest.mark.parametrize("costly", COSTLY)
async def test_what_is_costly_of_a_tenant_is_done_one_at_a_time_beside_that_of_others(
    costly: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @tool(side_effect="side_effecting")
    def pay() -> str:
        """Pays."""
        return "paid"

    monkeypatch.setattr(reading, "PAGE", 1)
    store, call = HeldStore(), COSTLY[costly]
    model = FakeModel(calls(("pay", {})) if costly == "long journals" else says("done"))
    async with started(Parts(model=model, tools=[pay], needs_approval=["pay"], store=store)) as running:
        mine = [await running.client.run("go", session_id=f"s{number}") for number in range(3)]
        (other,) = [await running.other_tenant.run("go", session_id="s")]
        store.most.clear()
        store.gate.clear()
        under_way = [asyncio.ensure_future(call(running.client, task)) for task in mine]
        under_way.append(asyncio.ensure_future(call(running.other_tenant, other)))
        await until(lambda: store.inside["acme"] and store.inside["globex"])
        # Behind those of its tenant on the same connection.
        await running.client.list_tools()
        store.gate.set()
        await asyncio.gather(*under_way)
    assert store.most == {"acme": 1, "globex": 1}

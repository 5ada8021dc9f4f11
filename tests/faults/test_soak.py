"""Every method for a while, three of ten calls given up half-way: what the server holds does not grow.

A minute of it; `make soak` makes ten.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_service.client import AsyncClient, CallError, approve
from tests.e2e.processes import KEY, server_process
from tests.faults.vitals import Vitals, settled

SOAK_S = float(os.environ.get("SOAK_S", "60"))
CALLERS = 8
GIVEN_UP = 0.3
# Refusals that such calls may meet: what they name is not there any more, or not yet.
EXPECTED = {"TASK_NOT_FOUND", "TASK_TERMINAL", "TASK_NOT_TERMINAL", "STALE_ANSWER", "SESSION_NOT_FOUND", "SESSION_BUSY"}
SETTINGS = {"RATE_LIMIT_CALLS": "1000000000", "RATE_LIMIT_TOKENS": "1000000000000", "TASK_RETENTION_DAYS": "0.00001"}

Act = Callable[[], Awaitable[Any]]


class Soak:
    """Callers who each do one thing after the other, at random."""

    def __init__(self, target: str, client: AsyncClient, seed: int) -> None:
        self._target = target
        self._client = client
        self._chance = random.Random(seed)
        self._task_id = "none"
        self.done: Counter[str] = Counter()
        self.given_up = 0
        self.wrong: list[str] = []

    async def caller(self, ends: float) -> None:
        """One of them, until that time of the loop."""
        acts = [getattr(self, name) for name in vars(type(self)) if name.startswith("_do_")]
        while asyncio.get_running_loop().time() < ends:
            act: Act = self._chance.choice(acts)
            calling = asyncio.ensure_future(act())
            if self._chance.random() < GIVEN_UP:
                self.given_up += 1
                await asyncio.wait({calling}, timeout=self._chance.uniform(0, 0.02))
                calling.cancel()
            try:
                await calling
            except asyncio.CancelledError:
                continue
            except CallError as error:
                if error.reason not in EXPECTED:
                    self.wrong.append(f"{act.__name__}: {error!r}")
            self.done[act.__name__] += 1

    async def _do_run(self) -> None:
        self._task_id = (await self._client.run("What is 17.5% of 2340?")).id

    async def _do_run_in_session(self) -> None:
        await self._client.run("add 2 and 3", session_id=f"s{self._chance.randrange(5)}")

    async def _do_stream(self) -> None:
        async for _ in self._client.stream("What is 17.5% of 2340?"):
            pass

    async def _do_submit_and_watch(self) -> None:
        task = await self._client.submit("add 2 and 3")
        async for _ in self._client.watch(task.id):
            pass

    async def _do_submit_and_cancel(self) -> None:
        task = await self._client.submit("add 2 and 3")
        await self._client.cancel(task.id)

    async def _do_get(self) -> None:
        await self._client.get_task(self._task_id)

    async def _do_list(self) -> None:
        await self._client.list_tasks(page_size=20, full=True)

    async def _do_invoke(self) -> None:
        await self._client.invoke_tool("calculator", {"expression": "2 + 3"})

    async def _do_look_around(self) -> None:
        await self._client.list_agents()
        await self._client.list_tools()
        await self._client.get_usage(by=["agent"])
        await self._client.health("readiness")

    async def _do_answer(self) -> None:
        await self._client.resume(self._task_id, "an-input", approve())

    async def _do_delete(self) -> None:
        await self._client.delete_task((await self._client.run("hello")).id)

    async def _do_delete_session(self) -> None:
        await self._client.delete_session(f"s{self._chance.randrange(5)}")

    async def _do_hang_up(self) -> None:
        """Close the connection in the middle of a call."""
        async with AsyncClient(self._target, api_key=KEY, patience_s=0) as client:
            left = asyncio.ensure_future(client.run("What is 17.5% of 2340?"))
            await asyncio.wait({left}, timeout=self._chance.uniform(0, 0.02))
        await asyncio.wait({left})
        if not left.cancelled() and isinstance(error := left.exception(), CallError):
            assert error.is_interruption or error.code == "CANCELLED", error


@pytest.mark.timeout(SOAK_S + 240)
async def test_what_a_server_holds_does_not_grow(tmp_path: Path) -> None:
    async with server_process(tmp_path, **SETTINGS) as server, AsyncClient(server.target, api_key=KEY) as client:
        soak = Soak(server.target, client, seed=1)
        held: list[Vitals] = []
        for _ in range(4):  # the first quarter makes what is made once
            ends = asyncio.get_running_loop().time() + SOAK_S / 4
            await asyncio.gather(*(soak.caller(ends) for _ in range(CALLERS)))
            gc.collect()  # until then grpc's client keeps connections that were closed
            held.append(await settled(server))
        print(f"{sum(soak.done.values())} calls, {soak.given_up} given up; {held}")  # noqa: T201 - with `-s`

        assert soak.wrong == []
        assert soak.given_up > 0.2 * sum(soak.done.values())
        assert set(soak.done) == {name for name in vars(Soak) if name.startswith("_do_")}
        assert held[-1].grown_since(held[0]) == []
        assert await client.health() == "SERVING"

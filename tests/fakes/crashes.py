"""Crashes and restarts: what is left of a process that was killed, and a world that outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from agent_service.tools.base import Tool, ToolContext
from agent_service.tools.decorator import SideEffect, tool
from tests.fakes.store import FakeStore
from tests.harness import SOON_S, Parts, Running, started

Call = Callable[[Running], Awaitable[object]]


class World:
    """What tools have done to it, over all restarts. Until it is `steady` they hang."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.steady = asyncio.Event()
        self._begun = asyncio.Semaphore(0)

    async def begun(self, calls: int = 1) -> None:
        """Wait until so many calls have begun."""
        for _ in range(calls):
            await self._begun.acquire()

    def tool(self, name: str, side_effect: SideEffect) -> Tool:
        @tool(name=name, side_effect=side_effect)
        async def act(context: ToolContext) -> str:
            """Does something."""
            self.keys.append(context.idempotency_key)
            self._begun.release()
            await self.steady.wait()
            return "did it"

        return act


async def left_by_a_crash(
    parts: Parts,
    call: Call,
    *arms: str,
    until: Awaitable[None] | None = None,
    store: FakeStore | None = None,
) -> tuple[str, FakeStore]:
    """Begin a task; its id, and what the store holds if the process is killed once these events are in it. With
    `store`, begin on what an earlier crash left.
    """
    store = store or FakeStore()
    async with started(replace(parts, store=store)) as running:
        calling = asyncio.ensure_future(call(running))
        task_id = await store.has(*arms)
        if until is not None:
            await until
        left = store.after_a_crash()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    return task_id, left


@asynccontextmanager
async def restarted(parts: Parts, store: FakeStore) -> AsyncIterator[Running]:
    """A new process on that store, once all that it found there has come to an end."""
    async with started(replace(parts, store=store)) as running:
        async with asyncio.timeout(SOON_S):
            await running.is_quiet()
        yield running

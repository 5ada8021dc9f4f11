"""Stores that fail, wait and tell, as their test says: the product's own in memory, with a hand on its medium."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

from agent_service.errors import OverloadedError
from agent_service.store.base import Appended
from agent_service.store.memory import MemoryStore
from agent_service.v1.error_reason_pb2 import ERROR_REASON_STORE_UNAVAILABLE
from agent_service.v1.task_event_pb2 import TaskEvent


class FakeStore(MemoryStore):
    """Fails the next `failures` appends and `read_failures` reads; between `hold` and `release`, appends wait before
    they are stored. `reads` counts the pages read. While it `is_down`, a check fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.read_failures = 0
        self.reads = 0
        self.is_down = False
        self.refused: list[list[str]] = []
        self._free = asyncio.Event()
        self._free.set()
        self._held = asyncio.Event()
        self._stored: dict[str, Counter[str]] = {}
        self._grown = asyncio.Condition()

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        if not self._free.is_set():
            self._held.set()
            await self._free.wait()
        arms = [str(event.WhichOneof("event")) for event in events]
        if self.failures:
            self.failures -= 1
            self.refused.append(arms)
            raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "the disk is full")
        appended = await super().append(events, attempt=attempt, after=after)
        async with self._grown:
            self._stored.setdefault(events[0].task_id, Counter()).update(arms)
            self._grown.notify_all()
        return appended

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        self.reads += 1
        if self.read_failures:
            self.read_failures -= 1
            raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "the disk is away")
        return await super().read(task_id, after_sequence=after_sequence, limit=limit)

    async def check(self) -> None:
        if self.is_down:
            raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "the disk is away")

    async def has(self, *arms: str) -> str:
        """Wait until some task has stored all of these, each as often as it is named; its id."""
        async with self._grown:
            while True:
                for task_id, stored in self._stored.items():
                    if Counter(arms) <= stored:
                        return task_id
                await self._grown.wait()

    def hold(self) -> None:
        self._held.clear()
        self._free.clear()

    async def is_held(self) -> None:
        """Wait until an append waits."""
        await self._held.wait()

    def release(self) -> None:
        self._free.set()

    def after_a_crash(self) -> FakeStore:
        """What another process finds if this one is killed now: what was stored, and nothing else."""
        left = FakeStore()
        left._journals = {
            task_id: replace(journal, payloads=list(journal.payloads)) for task_id, journal in self._journals.items()
        }
        left._created = self._created
        left._positions.last = self._positions.last
        left._used = deepcopy(self._used)
        return left

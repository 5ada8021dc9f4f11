"""Stores that fail, wait and tell, as their test says: the product's own in memory, with a hand on its medium."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Sequence

from agent_service.errors import OverloadedError
from agent_service.store.memory import MemoryStore
from agent_service.v1.error_reason_pb2 import ERROR_REASON_STORE_UNAVAILABLE
from agent_service.v1.task_event_pb2 import TaskEvent


class FakeStore(MemoryStore):
    """Fails the next `failures` appends; while `open` is not set, those that come wait before they are stored."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.refused: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self._stored: list[tuple[str, str]] = []
        self._grown = asyncio.Condition()

    def append(self, events: Sequence[TaskEvent], *, attempt: int | None) -> Awaitable[None]:
        return asyncio.ensure_future(self._append(events, attempt=attempt))

    async def _append(self, events: Sequence[TaskEvent], *, attempt: int | None) -> None:
        await self.open.wait()
        arms = [str(event.WhichOneof("event")) for event in events]
        if self.failures:
            self.failures -= 1
            self.refused.append(arms)
            raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "the disk is full")
        await super().append(events, attempt=attempt)
        async with self._grown:
            self._stored += [(events[0].task_id, arm) for arm in arms]
            self._grown.notify_all()

    async def has(self, *arms: str) -> str:
        """Wait until some task has stored all of these; its id."""
        async with self._grown:
            while True:
                for task_id in {task_id for task_id, _ in self._stored}:
                    if {(task_id, arm) for arm in arms} <= set(self._stored):
                        return task_id
                await self._grown.wait()

    def after_a_crash(self) -> FakeStore:
        """What another process finds if this one is killed now: what was stored, and nothing else."""
        left = FakeStore()
        left._heads, left._payloads = copy.deepcopy(self._heads), copy.deepcopy(self._payloads)
        left._unfinished = set(self._unfinished)
        return left

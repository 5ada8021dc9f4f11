"""The stores that the contracts are run on. A new adapter is one more entry in `ADAPTERS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agent_service.store.base import Appended, Database
from agent_service.store.memory import MemoryStore
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.v1.task_event_pb2 import TaskEvent

ADAPTERS: dict[str, Callable[..., AbstractAsyncContextManager[Database]]] = {
    "memory": lambda folder, **options: MemoryStore(**options),
    "sqlite": lambda folder, **options: SqliteStore(folder / "journal.db", **options),
}


@pytest.fixture(params=ADAPTERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with ADAPTERS[request.param](tmp_path) as opened:
        yield opened


def arms(events: Sequence[TaskEvent]) -> list[str | None]:
    return [each.WhichOneof("event") for each in events]


def sequences(events: Sequence[TaskEvent]) -> list[int]:
    return [each.sequence for each in events]


def numbered(events: Sequence[TaskEvent], first: int = 1) -> Sequence[TaskEvent]:
    """The events themselves, with the sequences that a journal gives them which begins with them."""
    for sequence, each in enumerate(events, first):
        each.sequence = sequence
    return events


async def outcomes(*appends: object) -> list[object]:
    """Wait for all; None for what was stored, for the rest the class of its exception."""
    results = await asyncio.gather(*appends, return_exceptions=True)  # type: ignore[call-overload] # futures all
    return [None if isinstance(result, Appended | None) else type(result) for result in results]

"""The store's in-memory twin: the same rules, and nothing outlives the process.

For tests, demonstrations and tasks that nobody would miss: every journal is kept until the process ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Self

from agent_service.store.base import TERMINAL, AppendRefusedError
from agent_service.store.entry import Entry, Head, acknowledge, advance, entry_of, event_of
from agent_service.v1.task_event_pb2 import TaskEvent


class MemoryStore:
    """Journals in dictionaries. Serialised like everywhere else, so that no caller's change reaches what is stored."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._payloads: dict[str, list[bytes]] = {}
        self._unfinished: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to let go of: here so that adapters are interchangeable."""

    def append(self, events: Sequence[TaskEvent], *, attempt: int | None) -> Awaitable[None]:
        """See `Store.append`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._store(entry_of(events, attempt=attempt))
        except (AppendRefusedError, ValueError) as exc:
            done.set_exception(exc)
        else:
            done.set_result(None)
        return done

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """See `Store.read`."""
        payloads = self._payloads.get(task_id, [])[after_sequence : after_sequence + limit]
        return [event_of(payload, sequence) for sequence, payload in enumerate(payloads, after_sequence + 1)]

    async def unfinished(self, *, after_task_id: str = "", limit: int = 1000) -> list[str]:
        """See `Store.unfinished`."""
        return sorted(task_id for task_id in self._unfinished if task_id > after_task_id)[:limit]

    async def check(self) -> None:
        """See `Store.check`: memory is always there."""

    def _store(self, entry: Entry) -> None:
        head = advance(self._heads.get(entry.task_id), entry)
        self._heads[entry.task_id] = head
        self._payloads.setdefault(entry.task_id, []).extend(entry.payloads)
        if head.state in TERMINAL:
            self._unfinished.discard(entry.task_id)
        else:
            self._unfinished.add(entry.task_id)
        acknowledge(entry, head.last_sequence)

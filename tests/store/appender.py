"""A process that appends until it is killed, and tells on stdout what the store acknowledged: `<task> <sequence>`."""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count

from agent_service.store.sqlite.adapter import SqliteStore
from tests.store.events import beginning, ending

TASKS_AT_ONCE = 16


async def append_for_ever(store: SqliteStore, worker: int) -> None:
    for n in count():
        task_id = f"{os.getpid()}-{worker}-{n}"
        for attempt, events in enumerate((beginning(task_id), ending(task_id))):
            await store.append(events, attempt=attempt)
            os.write(1, f"{task_id} {events[-1].sequence}\n".encode())


async def main(path: str) -> None:
    async with SqliteStore(path) as store, asyncio.TaskGroup() as workers:
        for worker in range(TASKS_AT_ONCE):
            workers.create_task(append_for_ever(store, worker))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

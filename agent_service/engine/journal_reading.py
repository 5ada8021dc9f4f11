"""Reads tasks: folds their journals."""

from __future__ import annotations

import asyncio
import time

from agent_service.engine.task.state import FoldedTask
from agent_service.store.base import Journal

# Events that are read and folded at a time. It bounds how long a long journal occupies a thread or the event loop.
PAGE = 100


async def read_folded(journal: Journal, task_id: str, *, rest: float = 0.0) -> FoldedTask:
    """Return the task, folded from its whole journal. A task without events has no state.

    After each page it sleeps `rest` times as long as the page took, so that reads that are not urgent use only that
    share of the process.
    """
    folded = FoldedTask()
    while True:
        began = time.perf_counter()
        page = await journal.read(task_id, after_sequence=folded.task.last_sequence, limit=PAGE)
        for event in page:
            folded.apply(event)
        if len(page) < PAGE:
            return folded
        if rest:
            await asyncio.sleep(rest * (time.perf_counter() - began))

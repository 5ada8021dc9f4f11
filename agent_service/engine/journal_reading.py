"""Tasks as their journals make them."""

from __future__ import annotations

import asyncio
import time

from agent_service.engine.task.state import FoldedTask
from agent_service.store.base import Journal

# Events that are read and folded at a time: neither threads nor the loop are held for longer by a long journal.
PAGE = 100


async def read_folded(journal: Journal, task_id: str, *, rest: float = 0.0) -> FoldedTask:
    """The task as its whole journal makes it; one without events has no state.

    Between two pages it rests for so many times as long as a page took: what may take its time takes no more than a
    part of the process.
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

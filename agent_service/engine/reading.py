"""Tasks as the store has them."""

from __future__ import annotations

from agent_service.engine.task_state import FoldedTask
from agent_service.store.base import Store
from agent_service.v1.task_event_pb2 import TaskEvent


async def read_folded(store: Store, task_id: str) -> FoldedTask:
    """The task as its whole journal makes it; one without events has no state."""
    folded = FoldedTask()
    while events := await store.read(task_id, after_sequence=folded.task.last_sequence):
        for event in events:
            folded.apply(event)
    return folded


async def read_after(store: Store, task_id: str, sequence: int) -> list[TaskEvent]:
    """All events of a journal above a sequence."""
    events: list[TaskEvent] = []
    while page := await store.read(task_id, after_sequence=sequence):
        events += page
        sequence = page[-1].sequence
    return events

"""What a journal adds to an event: its task, attempt and time when it is written, its sequence once it is stored."""

from __future__ import annotations

from collections.abc import Sequence

from agent_service.text.times import set_seconds
from agent_service.v1.task_event_pb2 import TaskEvent


def stamp(event: TaskEvent, task_id: str, attempt: int, now_s: float) -> None:
    """Say which task and attempt an event belongs to, and when it happened."""
    event.task_id = task_id
    event.attempt = attempt
    set_seconds(event.create_time, now_s)


def number(events: Sequence[TaskEvent], last_sequence: int) -> None:
    """Give the events of one append, the last of which has this sequence, theirs."""
    for sequence, event in enumerate(events, last_sequence - len(events) + 1):
        event.sequence = sequence

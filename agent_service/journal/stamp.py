"""Sets an event's task, attempt and time when it is written, and its sequence once it is stored."""

from __future__ import annotations

from collections.abc import Sequence

from agent_service.text.times import set_seconds
from agent_service.v1.task_event_pb2 import TaskEvent


def stamp(event: TaskEvent, task_id: str, attempt: int, now_s: float) -> None:
    """Set the task, attempt and time of an event."""
    event.task_id = task_id
    event.attempt = attempt
    set_seconds(event.create_time, now_s)


def number(events: Sequence[TaskEvent], last_sequence: int) -> None:
    """Set the sequences of the events of one append; `last_sequence` is that of the last one."""
    for sequence, event in enumerate(events, last_sequence - len(events) + 1):
        event.sequence = sequence

"""Events in their stored form: serialised without their sequence, which is a column of its own."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from google.protobuf.message import DecodeError

from agent_service.v1.task_event_pb2 import TaskEvent


def event_of(payload: bytes, sequence: int) -> TaskEvent:
    """Return a stored event, with its sequence."""
    event = TaskEvent.FromString(payload)
    event.sequence = sequence
    return event


def events_since(rows: Iterable[tuple[bytes, int]], since_us: int) -> list[TaskEvent]:
    """Return the events of these (payload, sequence) rows at or after a time. Unreadable events are skipped, because
    one of them must not fail a read over all tasks; a read of the task itself fails.
    """
    found = []
    for payload, sequence in rows:
        with suppress(DecodeError):
            event = event_of(payload, sequence)
            if event.create_time.ToMicroseconds() >= since_us:
                found.append(event)
    return found


def is_started(call_id: str, payloads: Iterable[bytes]) -> bool:
    """Return whether one of the stored events starts this tool call."""
    return any(TaskEvent.FromString(payload).tool_started.tool_call_id == call_id for payload in payloads)

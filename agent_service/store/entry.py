"""An append and the rule that admits it: what all adapters share, so that none of them decides for itself.

An append is taken apart once, in the caller's thread, into an `Entry`; `advance` says where it leads a journal, or
refuses it. Neither knows where journals are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agent_service.store.base import STATE_AFTER, TERMINAL, AppendRefusedError
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TaskState

UNJOURNALED = frozenset({"text_delta", "heartbeat"})
# Far above what the limits of tools and models let through. What a store cannot take would fail the whole commit.
EVENT_BYTES_MAX = 64 * 1024 * 1024


class Origin(NamedTuple):
    """Where a task comes from, as its columns have it."""

    tenant: str
    kind: int
    agent: str
    create_time_us: int


class Entry(NamedTuple):
    """One append. A tuple, not a dataclass: one is made for each append, and this is built in a third of the time.

    `owned` is the attempt that the caller owns or None for any; `attempt` the highest of its events; `state` the one
    they lead to, 0 where they change nothing; `origin` what finding a new task takes, None for one that exists;
    `time_us` when the last event happened, in µs since 1970.
    """

    events: tuple[TaskEvent, ...]
    payloads: list[bytes]
    task_id: str
    owned: int | None
    attempt: int
    state: int
    origin: Origin | None
    time_us: int


class Head(NamedTuple):
    """Where a journal stands, as far as the rule needs it."""

    state: int
    attempt: int
    last_sequence: int


NO_HEAD = Head(TaskState.TASK_STATE_UNSPECIFIED, 0, 0)


def entry_of(events: Sequence[TaskEvent], *, attempt: int | None) -> Entry:
    """Take an append apart. The payloads are the events without their sequence, which only the commit knows.

    Raises:
        ValueError: no events, events of several tasks, an order that no journal has, an event that is too large or at
            no possible time: faults of the calling code.
    """
    if not events:
        raise ValueError("an append needs events")
    events = tuple(events)
    first = events[0]
    task_id = first.task_id
    if not task_id:
        raise ValueError("an event needs a task_id")
    payloads, state, newest = [], 0, 0
    for event in events:
        arm = event.WhichOneof("event")
        if event.task_id != task_id:
            raise ValueError(f"events of two tasks in one append: {task_id} and {event.task_id}")
        if arm is None or arm in UNJOURNALED:
            raise ValueError(f"{arm} is not journaled")
        if state in TERMINAL:
            raise ValueError(f"{arm} after the end of task {task_id}")
        if arm == "submitted" and event is not first:
            raise ValueError(f"task {task_id} is submitted, but not first")
        state = STATE_AFTER.get(arm, state)
        newest = max(newest, event.attempt)
        if event.sequence:
            event.sequence = 0
        payload = event.SerializeToString()
        if len(payload) > EVENT_BYTES_MAX:
            raise ValueError(f"{arm} of {len(payload)} bytes; an event has at most {EVENT_BYTES_MAX}")
        payloads.append(payload)
    origin = _origin_of(first) if first.HasField("submitted") else None
    return Entry(events, payloads, task_id, attempt, newest, state, origin, events[-1].create_time.ToMicroseconds())


def _origin_of(event: TaskEvent) -> Origin:
    submitted = event.submitted
    return Origin(submitted.tenant, submitted.kind, submitted.agent, event.create_time.ToMicroseconds())


def advance(head: Head | None, entry: Entry) -> Head:
    """Where the entry leads a journal that stands at `head`, which is None where there is no such journal.

    Raises:
        AppendRefusedError: the journal moved on without its writer.
    """
    if entry.origin is not None:
        if head is not None:
            raise AppendRefusedError(f"task {entry.task_id} exists already")
        head = NO_HEAD
    elif head is None:
        raise AppendRefusedError(f"task {entry.task_id} does not exist")
    elif head.state in TERMINAL:
        raise AppendRefusedError(f"task {entry.task_id} is over")
    if entry.owned is not None and entry.owned != head.attempt:
        raise AppendRefusedError(f"task {entry.task_id} is in attempt {head.attempt}, not {entry.owned}")
    return Head(entry.state or head.state, max(head.attempt, entry.attempt), head.last_sequence + len(entry.payloads))


def acknowledge(entry: Entry, last_sequence: int) -> None:
    """Give the caller's own events the sequences that they were stored under."""
    for sequence, event in enumerate(entry.events, last_sequence - len(entry.events) + 1):
        event.sequence = sequence


def event_of(payload: bytes, sequence: int) -> TaskEvent:
    """An event as it was stored."""
    event = TaskEvent.FromString(payload)
    event.sequence = sequence
    return event

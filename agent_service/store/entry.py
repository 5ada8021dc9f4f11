"""An append and the rule that admits it: what all adapters share, so that none of them decides for itself.

An append is taken apart once, in the caller's thread, into an `Entry`; `advance` says where it leads a journal, or
refuses it. Neither knows where journals are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from google.protobuf.message import DecodeError

from agent_service.store.base import (
    REQUEST_ID_S,
    TERMINAL,
    TRANSIENT,
    AppendRefusedError,
    RequestIdTakenError,
    SessionBusyError,
    SessionOfOtherAgentError,
    StaleAppendError,
    state_after,
)
from agent_service.store.usage import Used, used_by
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TaskState

# Far above what the limits of tools and models let through. What a store cannot take would fail the whole commit.
EVENT_BYTES_MAX = 64 * 1024 * 1024
REQUEST_ID_US = int(REQUEST_ID_S * 1e6)


class Origin(NamedTuple):
    """Where a task comes from: what finding it takes."""

    tenant: str
    kind: int
    agent: str
    session_id: str
    request_id: str
    create_time_us: int
    session_waiting_max: int
    labels: Mapping[str, str]
    submitted_by: str


class Entry(NamedTuple):
    """One append. A tuple, not a dataclass: one is made for each append, and this is built in a third of the time.

    `owned` is the attempt that the caller owns or None for any, `after` the sequence that it must stand behind or None;
    `attempt` the highest of its events; `state` the one they lead to, 0 where they change nothing; `owner` the worker
    that drives the task from then on, "" for nobody and None where they change nothing; `due_us` when the task is
    overdue, 0 for never and None where they change nothing; `origin` is None for a task that exists; `time_us` when the
    last event happened, in µs since 1970; `used` what its events used.
    """

    events: tuple[TaskEvent, ...]
    payloads: list[bytes]
    task_id: str
    owned: int | None
    after: int | None
    attempt: int
    state: int
    owner: str | None
    due_us: int | None
    origin: Origin | None
    time_us: int
    used: list[Used]


class Head(NamedTuple):
    """Where a journal stands, as far as the rule needs it."""

    state: int
    attempt: int
    last_sequence: int
    session_id: str = ""


class Session(NamedTuple):
    """A session as it stands: whose it is, and its unfinished tasks in the order of their creation."""

    agent: str
    unfinished: list[str]


NO_HEAD = Head(TaskState.TASK_STATE_UNSPECIFIED, 0, 0)


def entry_of(events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Entry:
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
    owner: str | None = None
    due_us: int | None = None
    uses: list[Used] = []
    for event in events:
        arm = event.WhichOneof("event")
        if event.task_id != task_id:
            raise ValueError(f"events of two tasks in one append: {task_id} and {event.task_id}")
        if arm is None or arm in TRANSIENT:
            raise ValueError(f"{arm} is not journaled")
        if state in TERMINAL:
            raise ValueError(f"{arm} after the end of task {task_id}")
        if arm == "submitted" and event is not first:
            raise ValueError(f"task {task_id} is submitted, but not first")
        led_to = state_after(event, arm)
        if led_to or arm == "attempt_ended":
            state = led_to or state
            owner, due = _owner_and_due(event, arm)
            due_us = due_us if due is None else due
        if used := used_by(event, arm):
            uses.append(used)
        newest = max(newest, event.attempt)
        if event.sequence:
            event.sequence = 0
        payload = event.SerializeToString()
        if len(payload) > EVENT_BYTES_MAX:
            raise ValueError(f"{arm} of {len(payload)} bytes; an event has at most {EVENT_BYTES_MAX}")
        payloads.append(payload)
    origin = _origin_of(first) if first.HasField("submitted") else None
    time_us = events[-1].create_time.ToMicroseconds()
    return Entry(events, payloads, task_id, attempt, after, newest, state, owner, due_us, origin, time_us, uses)


def _owner_and_due(event: TaskEvent, arm: str) -> tuple[str, int | None]:
    """Who drives the task after an event that changes that, and when it is overdue; None where that stays."""
    match arm:
        case "attempt_started":
            return event.attempt_started.worker, None
        case "attempt_ended":
            return "", None
        case "submitted":
            return "", event.submitted.deadline.ToMicroseconds()
        case "input_required":
            return "", min(one.expire_time.ToMicroseconds() for one in event.input_required.inputs)
        case _:
            return "", 0


def _origin_of(event: TaskEvent) -> Origin:
    submitted = event.submitted
    return Origin(
        submitted.tenant,
        submitted.kind,
        submitted.agent,
        submitted.session_id,
        submitted.request_id,
        event.create_time.ToMicroseconds(),
        submitted.session_waiting_max,
        submitted.labels,
        submitted.submitted_by,
    )


def advance(head: Head | None, entry: Entry) -> Head:
    """Where the entry leads a journal that stands at `head`, which is None where there is no such journal.

    Raises:
        AppendRefusedError: the journal moved on without its writer.
    """
    session_id = ""
    if entry.origin is not None:
        if head is not None:
            raise AppendRefusedError(f"task {entry.task_id} exists already")
        head, session_id = NO_HEAD, entry.origin.session_id
    elif head is None:
        raise AppendRefusedError(f"task {entry.task_id} does not exist")
    elif head.state in TERMINAL:
        raise AppendRefusedError(f"task {entry.task_id} is over")
    if entry.owned is not None and entry.owned != head.attempt:
        raise AppendRefusedError(f"task {entry.task_id} is in attempt {head.attempt}, not {entry.owned}")
    if entry.after is not None and entry.after != head.last_sequence:
        raise StaleAppendError(f"task {entry.task_id} is at {head.last_sequence}, not {entry.after}")
    last_sequence = head.last_sequence + len(entry.payloads)
    attempt = max(head.attempt, entry.attempt)
    return Head(entry.state or head.state, attempt, last_sequence, head.session_id or session_id)


def check_request(named: tuple[str, int] | None, entry: Entry) -> None:
    """Whether a new task may have its request_id; `named` is the task that has it, with its creation in µs.

    Raises:
        RequestIdTakenError: not yet.
    """
    assert entry.origin is not None
    if named is not None and entry.origin.create_time_us - named[1] < REQUEST_ID_US:
        raise RequestIdTakenError(named[0])


def begins_in_session(head: Head | None, entry: Entry) -> str:
    """The session whose standing decides about the entry: of a new task, and of one that is begun; "" if none."""
    if entry.origin is not None:
        return entry.origin.session_id
    is_first = head is not None and head.state == TaskState.TASK_STATE_SUBMITTED
    return head.session_id if head is not None and is_first and _begins(entry) else ""


def check_session(session: Session | None, entry: Entry) -> None:
    """Whether an entry for which `begins_in_session` may enter, or begin in, its session as it stands.

    Raises:
        SessionOfOtherAgentError, SessionBusyError: not so.
    """
    if session is None:
        return
    if entry.origin is not None and session.agent != entry.origin.agent:
        raise SessionOfOtherAgentError(session.agent)
    unfinished = session.unfinished
    ahead = unfinished.index(entry.task_id) if entry.task_id in unfinished else len(unfinished)
    allowed = 0 if _begins(entry) or entry.origin is None else entry.origin.session_waiting_max
    if ahead > allowed:
        raise SessionBusyError(ahead)


def _begins(entry: Entry) -> bool:
    return any(event.HasField("attempt_started") for event in entry.events)


def acknowledge(entry: Entry, last_sequence: int) -> None:
    """Give the caller's own events the sequences that they were stored under."""
    for sequence, event in enumerate(entry.events, last_sequence - len(entry.events) + 1):
        event.sequence = sequence


def event_of(payload: bytes, sequence: int) -> TaskEvent:
    """An event as it was stored."""
    event = TaskEvent.FromString(payload)
    event.sequence = sequence
    return event


def events_since(rows: Iterable[tuple[bytes, int]], since_us: int) -> list[TaskEvent]:
    """Those of these (payload, sequence) that happened then or later, without what cannot be read: whoever looks over
    all tasks must not be stopped by one; who reads the task itself is.
    """
    found = []
    for payload, sequence in rows:
        with suppress(DecodeError):
            event = event_of(payload, sequence)
            if event.create_time.ToMicroseconds() >= since_us:
                found.append(event)
    return found

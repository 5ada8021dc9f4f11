"""One append, checked and serialised before any store sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent_service.journal.event_rules import EVENT_BYTES_MAX, RULES, TERMINAL, led_to
from agent_service.journal.usage import HOUR_S, Used
from agent_service.v1.task_event_pb2 import TaskEvent


class Origin(NamedTuple):
    """The fields of a new task by which it can be found."""

    tenant: str
    kind: int
    agent: str
    session_id: str
    request_id: str
    create_time_us: int
    session_waiting_max: int
    labels: Mapping[str, str]
    submitted_by: str


class Append(NamedTuple):
    """One append. A tuple, not a dataclass: one is created for each call, and a tuple takes a third of the time.

    - `payloads`: the events without their sequence, which only the commit knows
    - `owned`: the attempt that the caller owns; None for any
    - `after`: the last sequence that the journal must have; None for any
    - `attempt`: the highest attempt of its events
    - `state`: the resulting state; 0: unchanged
    - `owner`: the worker that drives the task afterwards, "" for none; None: unchanged
    - `due_us`: when the task becomes overdue, 0 for never; None: unchanged
    - `origin`: None for an existing task
    - `begins`: whether an attempt starts
    - `time_us`: the time of the last event, in µs since 1970
    - `used`: the usage of its events
    """

    payloads: list[bytes]
    task_id: str
    owned: int | None
    after: int | None
    attempt: int
    state: int
    owner: str | None
    due_us: int | None
    origin: Origin | None
    begins: bool
    time_us: int
    used: list[Used]


def append_of(events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Append:
    """Return the append of these events. The events are not changed.

    Raises:
        ValueError: no events, events of several tasks, an impossible order, an event that is too large or has an
            impossible time: bugs of the calling code.
    """
    if not events:
        raise ValueError("an append needs events")
    first = events[0]
    task_id = first.task_id
    if not task_id:
        raise ValueError("an event needs a task_id")
    payloads, state, newest, begins = [], 0, 0, False
    owner: str | None = None
    due_us: int | None = None
    uses: list[Used] = []
    for event in events:
        arm = event.WhichOneof("event")
        rule = RULES.get(arm or "")
        if event.task_id != task_id:
            raise ValueError(f"events of two tasks in one append: {task_id} and {event.task_id}")
        if arm is None or rule is None or rule.is_transient:
            raise ValueError(f"{arm} is not journaled")
        if state in TERMINAL:
            raise ValueError(f"{arm} after the end of task {task_id}")
        if arm == "submitted" and event is not first:
            raise ValueError(f"task {task_id} is submitted, but not first")
        state = (led_to(rule, event) if rule.state_if else rule.state) or state
        if rule.duty is not None and (duty := rule.duty(event)) is not None:
            owner = duty.owner
            due_us = due_us if duty.due_us is None else duty.due_us
        if rule.used is not None and (used := rule.used(event, event.create_time.seconds // HOUR_S)) is not None:
            uses.append(used)
        begins = begins or arm == "attempt_started"
        newest = max(newest, event.attempt)
        payload = (_unnumbered(event) if event.sequence else event).SerializeToString()
        if len(payload) > EVENT_BYTES_MAX:
            raise ValueError(f"{arm} of {len(payload)} bytes; an event has at most {EVENT_BYTES_MAX}")
        payloads.append(payload)
    origin = _origin_of(first) if first.HasField("submitted") else None
    time_us = events[-1].create_time.ToMicroseconds()
    return Append(payloads, task_id, attempt, after, newest, state, owner, due_us, origin, begins, time_us, uses)


def _unnumbered(event: TaskEvent) -> TaskEvent:
    copy = TaskEvent()
    copy.CopyFrom(event)
    copy.sequence = 0
    return copy


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
        dict(submitted.labels),
        submitted.submitted_by,
    )

"""Whether an append is admitted, and what follows from it: the one rule, which every store applies.

A store looks up what the rule asks for (`View`), stores what `admit` returns, and decides nothing by itself.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from agent_service.journal.append import Append
from agent_service.journal.event_rules import TERMINAL
from agent_service.journal.refusals import (
    AppendRefusedError,
    RequestIdTakenError,
    SessionBusyError,
    SessionOfOtherAgentError,
    StaleAppendError,
)
from agent_service.journal.usage import Amounts, UsageKey, count
from agent_service.v1.task_pb2 import TASK_STATE_SUBMITTED, TASK_STATE_UNSPECIFIED

# How long a request_id names its task, from the task's creation.
REQUEST_ID_S = 24 * 3600.0
REQUEST_ID_US = int(REQUEST_ID_S * 1e6)


class Head(NamedTuple):
    """Where a journal stands: a task's columns, as far as appends need or change them. `asked` is the model that it
    asks now.
    """

    tenant: str
    agent: str
    session_id: str
    state: int
    attempt: int
    last_sequence: int
    owner: str
    due_us: int
    asked: str


class RequestTask(NamedTuple):
    """The newest task that a request_id was given to, and when that was created."""

    task_id: str
    create_time_us: int


class Session(NamedTuple):
    """A session as it stands: whose it is, and its unfinished tasks in the order of their creation."""

    agent: str
    unfinished: list[str]


class View(Protocol):
    """What a store looks up for the rule: everything as it is after the appends admitted so far."""

    def head(self, task_id: str) -> Head | None:
        """Return where the task's journal stands; None if there is no such task."""

    def task_of_request(self, tenant: str, request_id: str) -> RequestTask | None:
        """Return the task that the request_id names, however long ago it was created; None if there is none."""

    def session(self, tenant: str, session_id: str) -> Session | None:
        """Return the session; None if it has no task."""

    def has_started(self, task_id: str, call_id: str) -> bool:
        """Return whether the journal has a start of this tool call."""


class Admitted(NamedTuple):
    """What an admitted append leads to: the task's columns after it, and what it adds to the sums of usage."""

    head: Head
    used: list[tuple[UsageKey, Amounts]]


def admit(view: View, append: Append) -> Admitted | AppendRefusedError:
    """Return what the append leads to, or why it is refused."""
    try:
        return _admitted(view, append)
    except AppendRefusedError as refusal:
        return refusal


def _admitted(view: View, append: Append) -> Admitted:
    head = _head_before(view.head(append.task_id), append)
    origin = append.origin
    if origin is not None and origin.request_id:
        _check_request(view.task_of_request(origin.tenant, origin.request_id), append)
    if head.session_id and (origin is not None or _is_first_begin(head, append)):
        _check_session(view.session(head.tenant, head.session_id), append)
    asked = head.asked
    used: list[tuple[UsageKey, Amounts]] = []
    if append.used:
        asked, used = count(
            append.used,
            tenant=head.tenant,
            agent=head.agent,
            asked=head.asked,
            is_repeated=lambda call_id: view.has_started(append.task_id, call_id),
        )
    after = Head(
        head.tenant,
        head.agent,
        head.session_id,
        append.state or head.state,
        max(head.attempt, append.attempt),
        head.last_sequence + len(append.payloads),
        head.owner if append.owner is None else append.owner,
        head.due_us if append.due_us is None else append.due_us,
        asked,
    )
    return Admitted(after, used)


def _head_before(head: Head | None, append: Append) -> Head:
    """Return where the journal stands that the append goes behind.

    Raises:
        AppendRefusedError: the journal moved on without its writer.
    """
    origin = append.origin
    if origin is not None:
        if head is not None:
            raise AppendRefusedError(f"task {append.task_id} exists already")
        head = Head(origin.tenant, origin.agent, origin.session_id, TASK_STATE_UNSPECIFIED, 0, 0, "", 0, "")
    elif head is None:
        raise AppendRefusedError(f"task {append.task_id} does not exist")
    elif head.state in TERMINAL:
        raise AppendRefusedError(f"task {append.task_id} is over")
    if append.owned is not None and append.owned != head.attempt:
        raise AppendRefusedError(f"task {append.task_id} is in attempt {head.attempt}, not {append.owned}")
    if append.after is not None and append.after != head.last_sequence:
        raise StaleAppendError(f"task {append.task_id} is at {head.last_sequence}, not {append.after}")
    return head


def _check_request(holder: RequestTask | None, append: Append) -> None:
    """Return if a new task may have its request_id.

    Raises:
        RequestIdTakenError: not yet.
    """
    assert append.origin is not None
    if holder is not None and append.origin.create_time_us - holder.create_time_us < REQUEST_ID_US:
        raise RequestIdTakenError(holder.task_id)


def _is_first_begin(head: Head, append: Append) -> bool:
    return append.begins and head.state == TASK_STATE_SUBMITTED


def _check_session(session: Session | None, append: Append) -> None:
    """Return if the append may enter, or begin in, its session as it stands.

    Raises:
        SessionOfOtherAgentError, SessionBusyError: not so.
    """
    if session is None:
        return
    if append.origin is not None and session.agent != append.origin.agent:
        raise SessionOfOtherAgentError(session.agent)
    unfinished = session.unfinished
    ahead = unfinished.index(append.task_id) if append.task_id in unfinished else len(unfinished)
    allowed = 0 if append.begins or append.origin is None else append.origin.session_waiting_max
    if ahead > allowed:
        raise SessionBusyError(ahead)

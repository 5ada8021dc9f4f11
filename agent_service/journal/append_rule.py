"""The admission rule for appends, which every store applies.

A store implements the look-ups of the rule (`View`) and stores the result of `admit`. It decides nothing by itself.
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
    """The end of a journal: the task's columns that appends need or change. `model` is the model of its current
    requests.
    """

    tenant: str
    agent: str
    session_id: str
    state: int
    attempt: int
    last_sequence: int
    owner: str
    due_us: int
    model: str


class RequestTask(NamedTuple):
    """The newest task with a request_id, and the time of its creation."""

    task_id: str
    create_time_us: int


class Session(NamedTuple):
    """A session: its agent, and its unfinished tasks in the order of their creation."""

    agent: str
    unfinished: list[str]


class View(Protocol):
    """The look-ups that a store implements for the rule. Each includes the appends admitted so far."""

    def head(self, task_id: str) -> Head | None:
        """Return the head of the task's journal; None if there is no such task."""

    def task_of_request(self, tenant: str, request_id: str) -> RequestTask | None:
        """Return the newest task with the request_id, regardless of its age; None if there is none."""

    def session(self, tenant: str, session_id: str) -> Session | None:
        """Return the session; None if it has no task."""

    def has_started(self, task_id: str, call_id: str) -> bool:
        """Return whether the journal contains a start of this tool call."""


class Admitted(NamedTuple):
    """The result of an admitted append: the task's columns after it, and its additions to the sums of usage."""

    head: Head
    used: list[tuple[UsageKey, Amounts]]


def admit(view: View, append: Append) -> Admitted | AppendRefusedError:
    """Return the result of the append, or the reason why it is refused."""
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
    model = head.model
    used: list[tuple[UsageKey, Amounts]] = []
    if append.used:
        model, used = count(
            append.used,
            tenant=head.tenant,
            agent=head.agent,
            model=head.model,
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
        model,
    )
    return Admitted(after, used)


def _head_before(head: Head | None, append: Append) -> Head:
    """Return the head of the journal before the append.

    Raises:
        AppendRefusedError: the task does not exist, exists already, has ended, or has another attempt.
        StaleAppendError: the journal has grown.
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
    """Return if a new task may use its request_id.

    Raises:
        RequestIdTakenError: it names a task that is younger than REQUEST_ID_S.
    """
    assert append.origin is not None
    if holder is not None and append.origin.create_time_us - holder.create_time_us < REQUEST_ID_US:
        raise RequestIdTakenError(holder.task_id)


def _is_first_begin(head: Head, append: Append) -> bool:
    return append.begins and head.state == TASK_STATE_SUBMITTED


def _check_session(session: Session | None, append: Append) -> None:
    """Return if the append may add its task to the session, or start its first attempt.

    Raises:
        SessionOfOtherAgentError, SessionBusyError: it may not.
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

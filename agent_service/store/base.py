"""The store's ports: journals, index, workers, usage, retention and history. One adapter implements all six.

A journal is the sequence of a task's events. The store assigns sequences, and refuses appends that would break a
journal, a session or an idempotency key, by the rule in `journal/append_rule.py`, which all adapters share. The
refusals are those in `journal/refusals.py`.

Every method of every port raises OverloadedError (STORE_UNAVAILABLE) when the medium is full, read-only or unreachable,
or the store is closed. The store recovers by itself once the medium does. All methods must be called from the same
event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent_service.store.usage import UsageQuery, UsageRow
from agent_service.v1.task_event_pb2 import TaskEvent

# Default: a process without heartbeats for this long counts as frozen, and other processes adopt its tasks.
SILENCE_MAX_S = 30.0
# A task in WORKING is overdue this long after its deadline: by then its own process should have ended it.
LAST_RESORT_US = 60_000_000


class Appended(NamedTuple):
    """The result of an append: the sequence of its last event in the journal, and its position among the appends of all
    tasks. Positions rise in the order of commits; appends of one task that share a commit share a position.
    """

    last_sequence: int
    position: int


class Change(NamedTuple):
    """A journal that has grown: the sequence of its last event, and the position of its last append."""

    task_id: str
    last_sequence: int
    position: int


class Journal(Protocol):
    """Journals, durable."""

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        """Append events of one task, all or none; return once they are synced.

        Appends are stored in the order in which the calls begin, even if their callers are cancelled: cancelling stops
        the wait and does not withdraw the append. The events are stored as they are when the call begins, and are not
        changed.

        The store assigns each event its sequence, rising by one from the last in the journal; the caller sets
        `create_time`, `attempt` and `task_id`. A journal begins with an append whose first event is `submitted`; before
        that its newest attempt is 0. `attempt` is the attempt that the caller owns, which must be the journal's newest;
        None accepts any. The newest attempt of a journal is the highest `TaskEvent.attempt` in it, so appending
        `attempt_started` for attempt N+1 with `attempt=N` takes a task over, exactly once. `after`, if not None, must
        be the sequence of the journal's last event.

        An append that raises OverloadedError is not stored, may be retried with the same events, and does not delay
        later ones. Only if the process dies before the medium works again may it turn out to be stored.

        Raises:
            AppendRefusedError: `attempt` is not the newest; the task is terminal; it does not exist, or does already.
                Refuses only this append, never others that share its commit.
            StaleAppendError: `after` is not the last sequence.
            RequestIdTakenError: the new task's `submitted.request_id`, if set, names a task of its tenant that was
                created less than REQUEST_ID_S before it.
            SessionOfOtherAgentError: the oldest task in the new task's session has another agent. Sessions belong to a
                tenant: other tenants may have sessions of the same name.
            SessionBusyError: more than `submitted.session_waiting_max` unfinished tasks of its session precede a new
                task; or any at all precede a task whose first `attempt_started` is appended.
            ValueError: no events, events of several tasks, an event that is not journaled, `submitted` that is not the
                first event, an event after the terminal one: bugs of the calling code.
        """

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """Return the events above `after_sequence`, in order, at most `limit`; empty if there are none or no such task.

        Includes everything that was acknowledged before the call.
        """

    async def follow(self, after_position: int, *, limit: int = 1000) -> list[Change]:
        """Return the journals that have grown since a position, in the order of their last appends, each once, at most
        `limit`. The position of the last one is the start of the next call.

        A journal that grows again is returned again; an erased one is not. Includes everything that was acknowledged
        before the call. Cheap: called many times a second.
        """

    async def position(self) -> int:
        """Return the position of the newest append. Following from there returns only later appends."""

    async def check(self) -> None:
        """Return if a small write can be made durable now."""


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """The filters of a list; a task must match all that are set. Times are µs since 1970; `before` is a row's cursor.

    `walked_max` bounds the number of tasks that are scanned if no index selects exactly the matching ones; None: no
    bound.
    """

    tenant: str | None = None
    agent: str = ""
    states: frozenset[int] = frozenset()
    session_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_since_us: int | None = None
    created_before_us: int | None = None
    before: int | None = None
    limit: int = 50
    walked_max: int | None = None
    submitted_by: str = ""


class TaskRow(NamedTuple):
    """A task in a list: its columns, its first event and its last. `cursor` decreases from row to row of a list."""

    cursor: int
    task_id: str
    tenant: str
    state: int
    attempt: int
    first: TaskEvent
    last: TaskEvent


class TaskPage(NamedTuple):
    """A part of a list. `rest` is the cursor after which more rows may follow; None: there are no more."""

    rows: list[TaskRow]
    rest: int | None


class TaskIndex(Protocol):
    """Finds tasks."""

    async def of_request(self, tenant: str, request_id: str) -> str:
        """Return the task with this request_id, if it is younger than REQUEST_ID_S by the clock; "" otherwise."""

    async def find(self, task_id: str) -> TaskRow | None:
        """Return one task; None if it does not exist. The cost does not grow with the task."""

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        """Return tasks, newest first, at most `query.limit`; fewer, even none, once `query.walked_max` were scanned.

        The cost does not grow with the tasks after the page, nor with tasks of other tenants, agents, keys, sessions or
        labels, nor, for a list of unfinished tasks, with finished ones. Other filters are applied to the tasks that
        these select, which adapters may have to scan.
        """

    async def waiting_for_input(self) -> int:
        """Return the number of tasks in INPUT_REQUIRED. Scans all unfinished tasks."""

    async def overdue(self, now_us: int, *, limit: int = 1000) -> list[str]:
        """Return overdue tasks: in SUBMITTED after `submitted.deadline`; in WORKING LAST_RESORT_US after it, unless
        they have waited for input; in INPUT_REQUIRED after the earliest `expire_time` of the inputs.
        """


class Orphan(NamedTuple):
    """A task that no worker drives. `attempt` is its newest, 0 before the first; `cursor` rises from row to row."""

    task_id: str
    tenant: str
    session_id: str
    attempt: int
    cursor: int = 0


class Peers(NamedTuple):
    """The other workers: the number of living ones, and the tasks with callers there, as they published last."""

    living: int
    attached: frozenset[str]


class Workers(Protocol):
    """The processes that share the store, and the tasks that they drive. A task's owner is the worker of its newest
    `attempt_started`, until `input_required`, `attempt_ended` or its end.

    A worker is dead once it has deregistered, or once the store knows that its process ended. It counts as frozen, with
    the same consequences, once its heartbeats have stopped by the rule in `liveness.py`. This affects liveness only:
    safety comes from the check of the attempt in `Journal.append`.
    """

    async def heartbeat(self, worker: str) -> Peers:
        """Record that this worker is alive, and return the other living ones. Except for the first time, it waits
        neither for appends nor for other reads.
        """

    async def publish_callers(self, worker: str, attached: Collection[str]) -> None:
        """Publish to the other workers which tasks have callers at this one. Requires an earlier heartbeat."""

    async def deregister(self, worker: str) -> None:
        """Remove this worker; its tasks have no owner from then on. Closing the store does the same."""

    async def orphans(
        self, worker: str, driven: Collection[str] = (), *, begun: bool, after: int = 0, limit: int = 1000
    ) -> list[Orphan]:
        """Return tasks in WORKING (`begun`) or in SUBMITTED that no worker drives, oldest first, after the cursor
        `after`: tasks without an owner, tasks of dead workers, and tasks of `worker`, which is alive, not in `driven`.
        """


class UsageLedger(Protocol):
    """Usage by hour, tenant, agent and model: always the sum over the events of all journals, erased ones included. An
    event counts in the hour of its `create_time`, for the model of its task's request at that time.
    """

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        """Return sums by bucket, tenant, agent and model, in this order, ascending; at most `query.limit`.

        Includes everything that was acknowledged before the call.
        """


class Retention(Protocol):
    """Erases finished tasks. Of an erased task nothing remains but its usage; its request_id can be used again."""

    async def erase(self, task_id: str) -> bool:
        """Erase a terminal task. Return False if it does not exist, or is not terminal."""

    async def erase_session(self, tenant: str, session_id: str) -> int:
        """Erase all tasks of a session; return their number. If the process dies meanwhile, some tasks remain.

        Raises:
            SessionBusyError: some are not terminal; none is erased.
        """

    async def erase_finished(self, before_us: int, *, limit: int) -> int:
        """Erase terminal tasks whose last event is older, oldest first, at most `limit`, in one commit; return their
        number.
        """


class Recent(NamedTuple):
    """The recent events of one task, in order."""

    tenant: str
    agent: str
    events: list[TaskEvent]


class History(Protocol):
    """Recent events of all tasks."""

    def recent(self, since_us: int) -> AsyncIterator[list[Recent]]:
        """Yield pages of the tasks whose last event is not older, each task once, in unspecified order. Tasks that
        change meanwhile may be returned in their old or new state; unreadable events are skipped.
        """


class Database(Journal, TaskIndex, Workers, UsageLedger, Retention, History, Protocol):
    """All ports, as an adapter implements them. Only the composition root uses this type; other code takes the ports
    that it uses.
    """

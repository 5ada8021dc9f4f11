"""The store's ports: where journals are kept, found, owned, summed up, looked back on and erased.

One adapter implements all six.

A journal is the sequence of a task's events. The store gives sequences and refuses what would break a journal, a
session or an idempotency key, by the rule of `journal/append_rule.py`, which all adapters share. The refusals are those
of `journal/refusals.py`.

Every method of every port raises OverloadedError (STORE_UNAVAILABLE) when the medium is full, read-only or unreachable,
or the store is closed. The store works again by itself once the medium does. All methods may be called from one event
loop only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent_service.store.usage import UsageQuery, UsageRow
from agent_service.v1.task_event_pb2 import TaskEvent

# A process whose heartbeats have stopped for this long is taken for frozen, and its tasks go on elsewhere: by default.
SILENCE_MAX_S = 30.0
# A task in WORKING is overdue so long after its deadline: by then its own process must have ended it.
LAST_RESORT_US = 60_000_000


class Appended(NamedTuple):
    """Where a stored append stands: the sequence of its last event in the journal, and its position among the appends
    of all tasks. Positions rise in the order of commits; appends of one task that share a commit share a position.
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

        Appends are stored in the order in which the calls begin, also where their callers are cancelled: cancelling
        stops the wait and does not take an append back. What is stored are the events as they are when the call begins;
        they are not changed.

        The store gives each event its sequence, rising by one from the last in the journal; `create_time`, `attempt`
        and `task_id` are the caller's. A journal begins with an append whose first event is `submitted`; its newest
        attempt before that is 0. `attempt` is the one that the caller owns, which must be the journal's newest; None
        appends whatever it is. The newest attempt of a journal is the highest `TaskEvent.attempt` in it, so appending
        `attempt_started` for attempt N+1 with `attempt=N` takes a task over, once. `after`, where it is not None, must
        be the sequence of the journal's last event.

        An append that raises OverloadedError is not stored, may be tried again with the same events, and does not hold
        back later ones; only if the process dies before the medium works again may it be found stored after all.

        Raises:
            AppendRefusedError: `attempt` is not the newest; the task is terminal; it does not exist, or does already.
                Refuses this append alone, never others that share its commit.
            StaleAppendError: `after` is not the last sequence.
            RequestIdTakenError: the new task's `submitted.request_id`, if it has one, names a task of its tenant that
                was created less than REQUEST_ID_S before it.
            SessionOfOtherAgentError: the oldest task of the new one's session has another agent. A session is a
                tenant's: others may have one of the same name.
            SessionBusyError: more than `submitted.session_waiting_max` unfinished tasks of its session stand before a
                new task; or any at all before one whose first `attempt_started` this is.
            ValueError: no events or those of several tasks, an event that is not journaled, `submitted` that is not the
                first, an event after the terminal one: faults of the calling code.
        """

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """The events above `after_sequence`, in order, at most `limit`; empty if there are none or no such task.

        Whatever was acknowledged before the call is there.
        """

    async def follow(self, after_position: int, *, limit: int = 1000) -> list[Change]:
        """The journals that have grown since a position, in the order of their last appends, each once, at most
        `limit`; the last one's position is where to go on.

        A journal that grows again comes again. One that was erased comes no more. Of whatever was acknowledged before
        the call nothing is left out. Cheap: asked many times a second.
        """

    async def position(self) -> int:
        """The position of the newest append: who follows from here gets what comes later, and nothing else."""

    async def check(self) -> None:
        """Return if a small write can be made durable now."""


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks: those that fit all that is set. Times in µs since 1970; `before` is the cursor of a row.

    `walked_max` is how many tasks may be looked through where no index leaves those alone that fit; None for all.
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
    """A task as lists need it: its columns, its first event and its last. `cursor` falls from row to row of a list."""

    cursor: int
    task_id: str
    tenant: str
    state: int
    attempt: int
    first: TaskEvent
    last: TaskEvent


class TaskPage(NamedTuple):
    """Some of a list. `rest` is the cursor behind which more may follow; None where there is no more."""

    rows: list[TaskRow]
    rest: int | None


class TaskIndex(Protocol):
    """Finds tasks."""

    async def of_request(self, tenant: str, request_id: str) -> str:
        """The task that a request_id has named for less than REQUEST_ID_S, by the clock; "" if there is none."""

    async def find(self, task_id: str) -> TaskRow | None:
        """One task; None if there is no such. How long it takes does not grow with the task."""

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        """Newest first, at most `query.limit`; fewer, also none, where `query.walked_max` were looked through. How long
        it takes does not grow with the tasks that stand behind, nor with those of other tenants, agents, keys, sessions
        or labels, nor for unfinished ones with those that are over. What else is asked for is looked for among what
        these leave, which adapters may have to walk through.
        """

    async def waiting_for_input(self) -> int:
        """Return how many tasks are in INPUT_REQUIRED. Looks at all that are unfinished."""

    async def overdue(self, now_us: int, *, limit: int = 1000) -> list[str]:
        """Tasks whose time is up: in SUBMITTED past `submitted.deadline`; in WORKING LAST_RESORT_US past it, unless
        they have waited for input; in INPUT_REQUIRED past the earliest `expire_time` of the inputs.
        """


class Orphan(NamedTuple):
    """A task that nobody drives. `attempt` is its newest, 0 if it was never begun; `cursor` rises from row to row."""

    task_id: str
    tenant: str
    session_id: str
    attempt: int
    cursor: int = 0


class Peers(NamedTuple):
    """The other workers: how many live, and the tasks that those have callers of, as they said last."""

    living: int
    attached: frozenset[str]


class Workers(Protocol):
    """The processes that share the store, and who drives what. A task's owner is the worker of its newest
    `attempt_started`, until `input_required`, `attempt_ended` or its end.

    A worker is dead once it has left, or once the store knows that its process ended. It is taken for frozen, which
    comes to the same, once its heartbeats have stopped by the rule of `liveness.py`. This decides liveness alone:
    safety is the check of the attempt in `Journal.append`.
    """

    async def heartbeat(self, worker: str) -> Peers:
        """Record that this worker lives, and return the others that do. Waits neither for appends nor for other reads,
        save the first time.
        """

    async def publish_callers(self, worker: str, attached: Collection[str]) -> None:
        """Tell the other workers which tasks this one, which has beaten before, has callers of."""

    async def deregister(self, worker: str) -> None:
        """This worker is gone: nobody owns what it still owned. Closing the store does the same."""

    async def orphans(
        self, worker: str, driven: Collection[str] = (), *, begun: bool, after: int = 0, limit: int = 1000
    ) -> list[Orphan]:
        """Tasks in WORKING (`begun`) or in SUBMITTED that nobody drives, oldest first, behind the cursor `after`: those
        without an owner, those of dead workers, and those of `worker`, which is alive, that are not among `driven`.
        """


class UsageLedger(Protocol):
    """What was used, by hour, tenant, agent and model: always the sum of what the events of all journals say, also of
    those that were erased. An event counts in the hour of its `create_time`, for the model that its task asks then.
    """

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        """Sums by bucket, tenant, agent and model, in this order, ascending; at most `query.limit`.

        Whatever was acknowledged before the call is in them.
        """


class Retention(Protocol):
    """Erases what is over. An erased task is as if it had never been, and so is its request_id; what it used stays."""

    async def erase(self, task_id: str) -> bool:
        """Erase a terminal task; False if there is none, or it is not terminal."""

    async def erase_session(self, tenant: str, session_id: str) -> int:
        """Erase all tasks of a session; how many. If the process dies meanwhile, the rest is still there.

        Raises:
            SessionBusyError: some are not terminal; none is erased.
        """

    async def erase_finished(self, before_us: int, *, limit: int) -> int:
        """Erase terminal tasks whose last event is older, the oldest first, at most `limit`; how many. A commit."""


class Recent(NamedTuple):
    """What happened lately to one task: its events since then, in order."""

    tenant: str
    agent: str
    events: list[TaskEvent]


class History(Protocol):
    """What happened, over all tasks."""

    def recent(self, since_us: int) -> AsyncIterator[list[Recent]]:
        """The tasks whose last event is not older, page by page, each once; in no order that anybody may count on.
        Tasks that go on meanwhile may be told as they were or as they are; events that cannot be read are left out.
        """


class Database(Journal, TaskIndex, Workers, UsageLedger, Retention, History, Protocol):
    """What an adapter implements. The composition root alone names it: each user takes the ports that it uses."""

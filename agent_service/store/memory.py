"""A store in memory: the same rules, lost with the process.

For tests, demonstrations and tasks that need no durability. Where other stores use an index, this one scans all tasks.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from types import TracebackType
from typing import NamedTuple, Self

from agent_service.clock import SteadyClock
from agent_service.journal.append import Append, Origin, append_of
from agent_service.journal.append_rule import REQUEST_ID_S, Head, RequestTask, Session, admit
from agent_service.journal.event_rules import TERMINAL
from agent_service.journal.payloads import event_of, events_since, is_started
from agent_service.journal.refusals import AppendRefusedError, SessionBusyError
from agent_service.store.base import (
    LAST_RESORT_US,
    SILENCE_MAX_S,
    Appended,
    Change,
    Orphan,
    Peers,
    Recent,
    TaskPage,
    TaskQuery,
    TaskRow,
)
from agent_service.store.liveness import Liveness
from agent_service.store.usage import Tally, UsageQuery, UsageRow, summed
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_INPUT_REQUIRED, TaskState


@dataclass(frozen=True, slots=True)
class _Journal:
    """A task: its columns and its events, serialised, so that callers cannot change stored events. All versions of a
    task share one list of payloads.
    """

    cursor: int
    head: Head
    origin: Origin
    update_time_us: int
    payloads: list[bytes]
    position: int = 0

    @property
    def is_over(self) -> bool:
        return self.head.state in TERMINAL


class _Positions:
    """Counts the appends of all tasks."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        """Take the next position."""
        self.last += 1
        return self.last


class _WorkerState(NamedTuple):
    """A worker's number of heartbeats, and the tasks with callers there."""

    heartbeats: int
    attached: frozenset[str]


class MemoryStore:
    """Journals in a dictionary, in the order of their creation."""

    def __init__(self, *, silence_max_s: float = SILENCE_MAX_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._liveness = Liveness(silence_max_s, clock)
        self._now_s = SteadyClock()
        self._journals: dict[str, _Journal] = {}
        self._workers: dict[str, _WorkerState] = {}
        self._created = 0
        self._positions = _Positions()
        self._used = Tally()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: present so that adapters are interchangeable."""

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        """See `Journal.append`."""
        return self._store(append_of(events, attempt=attempt, after=after))

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        """See `Journal.read`."""
        journal = self._journals.get(task_id)
        payloads = journal.payloads[after_sequence : after_sequence + limit] if journal else []
        return [event_of(payload, sequence) for sequence, payload in enumerate(payloads, after_sequence + 1)]

    async def check(self) -> None:
        """See `Journal.check`: memory is always available."""

    async def of_request(self, tenant: str, request_id: str) -> str:
        """See `TaskIndex.of_request`."""
        holder = _View(self._journals).task_of_request(tenant, request_id)
        return holder.task_id if holder and self._now_s() - holder.create_time_us / 1e6 < REQUEST_ID_S else ""

    async def find(self, task_id: str) -> TaskRow | None:
        """See `TaskIndex.find`."""
        journal = self._journals.get(task_id)
        return _row(task_id, journal) if journal else None

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        """See `TaskIndex.list_tasks`."""
        rows: list[TaskRow] = []
        walked = 0
        for task_id, journal in reversed(self._journals.items()):
            if query.before is not None and journal.cursor >= query.before:
                continue
            walked += query.tenant in (None, journal.origin.tenant)
            if _fits(journal, query):
                rows.append(_row(task_id, journal))
            if len(rows) == query.limit or walked == query.walked_max:
                return TaskPage(rows, journal.cursor)
        return TaskPage(rows, None)

    async def follow(self, after_position: int, *, limit: int = 1000) -> list[Change]:
        """See `Journal.follow`."""
        if self._positions.last <= after_position:
            return []
        grown = [
            Change(task_id, journal.head.last_sequence, journal.position)
            for task_id, journal in self._journals.items()
            if journal.position > after_position
        ]
        return sorted(grown, key=lambda change: change.position)[:limit]

    async def position(self) -> int:
        """See `Journal.position`."""
        return self._positions.last

    async def waiting_for_input(self) -> int:
        """See `TaskIndex.waiting_for_input`."""
        return sum(journal.head.state == TASK_STATE_INPUT_REQUIRED for journal in self._journals.values())

    async def heartbeat(self, worker: str) -> Peers:
        """See `Workers.heartbeat`."""
        own = self._workers.get(worker, _WorkerState(0, frozenset()))
        self._workers[worker] = own._replace(heartbeats=own.heartbeats + 1)
        others = {other: state for other, state in self._workers.items() if other != worker}
        self._liveness.observe({other: state.heartbeats for other, state in others.items()})
        living = [state.attached for other, state in others.items() if self._is_alive(other)]
        return Peers(len(living), frozenset().union(*living))

    async def publish_callers(self, worker: str, attached: Collection[str]) -> None:
        """See `Workers.publish_callers`."""
        self._workers[worker] = self._workers[worker]._replace(attached=frozenset(attached))

    async def deregister(self, worker: str) -> None:
        """See `Workers.deregister`."""
        self._workers.pop(worker, None)

    async def orphans(
        self, worker: str, driven: Collection[str] = (), *, begun: bool, after: int = 0, limit: int = 1000
    ) -> list[Orphan]:
        """See `Workers.orphans`."""
        state = TaskState.TASK_STATE_WORKING if begun else TaskState.TASK_STATE_SUBMITTED
        found = (
            Orphan(task_id, journal.origin.tenant, journal.origin.session_id, journal.head.attempt, journal.cursor)
            for task_id, journal in self._journals.items()
            if journal.head.state == state and journal.cursor > after
            if (task_id not in driven if journal.head.owner == worker else not self._is_alive(journal.head.owner))
        )
        return list(islice(found, limit))

    async def overdue(self, now_us: int, *, limit: int = 1000) -> list[str]:
        """See `TaskIndex.overdue`."""
        found = (task_id for task_id, journal in self._journals.items() if _is_overdue(journal, now_us))
        return [task_id for task_id, _ in zip(found, range(limit), strict=False)]

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        """See `UsageLedger.usage`."""
        return summed(self._used.rows(), query)

    async def erase(self, task_id: str) -> bool:
        """See `Retention.erase`."""
        journal = self._journals.get(task_id)
        if journal is None or not journal.is_over:
            return False
        del self._journals[task_id]
        return True

    async def erase_session(self, tenant: str, session_id: str) -> int:
        """See `Retention.erase_session`."""
        session = _View(self._journals).session(tenant, session_id)
        if session is not None and session.unfinished:
            raise SessionBusyError(len(session.unfinished))
        found = [task_id for task_id, journal in self._journals.items() if _is_in(journal, tenant, session_id)]
        for task_id in found:
            del self._journals[task_id]
        return len(found)

    async def erase_finished(self, before_us: int, *, limit: int) -> int:
        """See `Retention.erase_finished`."""
        old = [item for item in self._journals.items() if item[1].is_over and item[1].update_time_us < before_us]
        old.sort(key=lambda item: item[1].update_time_us)
        for task_id, _ in old[:limit]:
            del self._journals[task_id]
        return len(old[:limit])

    async def recent(self, since_us: int) -> AsyncIterator[list[Recent]]:
        """See `History.recent`."""
        for journal in list(self._journals.values()):
            if journal.update_time_us >= since_us:
                events = events_since(zip(journal.payloads, count(1), strict=False), since_us)
                yield [Recent(journal.origin.tenant, journal.origin.agent, events)]

    def _store(self, append: Append) -> Appended:
        """Store an append.

        Raises:
            AppendRefusedError: the rule does not admit it.
        """
        admitted = admit(_View(self._journals), append)
        if isinstance(admitted, AppendRefusedError):
            raise admitted
        head, journal = admitted.head, self._journals.get(append.task_id)
        for key, amounts in admitted.used:
            self._used.add(key, amounts)
        if journal is None:
            assert append.origin is not None
            self._created += 1
            journal = _Journal(self._created, head, append.origin, 0, [])
        position = self._positions.next()
        self._journals[append.task_id] = replace(journal, head=head, update_time_us=append.time_us, position=position)
        # In place, so that stored payloads are not copied for every event.
        journal.payloads.extend(append.payloads)
        return Appended(head.last_sequence, position)

    def _is_alive(self, worker: str) -> bool:
        return worker in self._workers and not self._liveness.is_silent(worker)


class _View:
    """The look-ups of the admission rule, on the current journals."""

    def __init__(self, journals: dict[str, _Journal]) -> None:
        self._journals = journals

    def head(self, task_id: str) -> Head | None:
        """See `View.head`."""
        journal = self._journals.get(task_id)
        return journal.head if journal else None

    def task_of_request(self, tenant: str, request_id: str) -> RequestTask | None:
        """See `View.task_of_request`."""
        for task_id, journal in reversed(self._journals.items()):
            if (journal.origin.tenant, journal.origin.request_id) == (tenant, request_id):
                return RequestTask(task_id, journal.origin.create_time_us)
        return None

    def session(self, tenant: str, session_id: str) -> Session | None:
        """See `View.session`."""
        found = [item for item in self._journals.items() if _is_in(item[1], tenant, session_id)]
        if not found:
            return None
        return Session(found[0][1].origin.agent, [task_id for task_id, journal in found if not journal.is_over])

    def has_started(self, task_id: str, call_id: str) -> bool:
        """See `View.has_started`."""
        return is_started(call_id, self._journals[task_id].payloads)


def _is_in(journal: _Journal, tenant: str, session_id: str) -> bool:
    return (journal.origin.tenant, journal.origin.session_id) == (tenant, session_id)


def _is_overdue(journal: _Journal, now_us: int) -> bool:
    grace_us = LAST_RESORT_US if journal.head.state == TaskState.TASK_STATE_WORKING else 0
    return 0 < journal.head.due_us <= now_us - grace_us


def _fits(journal: _Journal, query: TaskQuery) -> bool:
    origin = journal.origin
    return (
        query.tenant in (None, origin.tenant)
        and query.agent in ("", origin.agent)
        and (not query.states or journal.head.state in query.states)
        and query.session_id in ("", origin.session_id)
        and query.submitted_by in ("", origin.submitted_by)
        and query.labels.items() <= origin.labels.items()
        and (query.created_since_us is None or origin.create_time_us >= query.created_since_us)
        and (query.created_before_us is None or origin.create_time_us < query.created_before_us)
    )


def _row(task_id: str, journal: _Journal) -> TaskRow:
    head, payloads = journal.head, journal.payloads
    first, last = event_of(payloads[0], 1), event_of(payloads[-1], len(payloads))
    return TaskRow(journal.cursor, task_id, journal.origin.tenant, head.state, head.attempt, first, last)

"""A fair queue of tasks, which selects the task to start next. A data structure: no clock, no I/O, one thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heapify, heappop, heappush
from itertools import count

# With fewer stale entries than this, no cleanup takes place.
STALE_MIN = 64


class Priority(IntEnum):
    """The order of service: tasks with earlier attempts, tasks that a caller waits for, all others."""

    RESUMED = 0
    INTERACTIVE = 1
    QUEUED = 2


@dataclass(frozen=True, slots=True)
class Runnable:
    """A task that could be started. `attempt` is its newest; a newer one in the journal is that of another process."""

    task_id: str
    tenant: str
    session_id: str = ""
    priority: Priority = Priority.QUEUED
    attempt: int = 0


class QueueFullError(Exception):
    """The tenant has reached its maximum of queued tasks."""


@dataclass(slots=True)
class _Session:
    """The queue of one session. Its tasks are started one at a time: those with earlier attempts first, then in order.
    Of its `size` tasks, `behind` must wait until another task has ended.
    """

    is_busy: bool = False
    size: int = 0
    behind: int = 0
    line: list[tuple[int, int, str]] = field(default_factory=list)


class FairQueue:
    """Ordered by priority, round robin between tenants, FIFO within a tenant, and one task of a session at a time: a
    claim makes its session busy until `release`.

    Only the first task of a session can be claimed. Removal is lazy: the heaps hold hints, and a hint whose task has
    left, or whose session is busy, is dropped when it reaches the top; `release` adds a new one. So no operation scans
    tasks that cannot be claimed, except the cleanup that drops stale hints once they outnumber the tasks.
    """

    def __init__(self, *, queued_max: int) -> None:
        self.queued_max = queued_max
        self._order = count(1)
        self._front = count(0, -1)
        self._places: dict[str, tuple[int, Runnable]] = {}
        self._queued: Counter[str] = Counter()
        self._sessions: dict[tuple[str, str], _Session] = {}
        # For each priority, the tenants in round-robin order, each with its heap of hints.
        self._tenants: dict[Priority, dict[str, list[tuple[int, str]]]] = {priority: {} for priority in Priority}
        self._behind_session = 0
        # The number of hints, plus the entries in the queues of sessions.
        self._kept = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._places

    @property
    def kept(self) -> int:
        """The number of hints and session entries in memory, bounded by the number of queued tasks."""
        return self._kept

    @property
    def task_ids(self) -> Set[str]:
        """The queued tasks."""
        return self._places.keys()

    def get(self, task_id: str) -> Runnable | None:
        """Return a queued task; None if it is not queued."""
        place = self._places.get(task_id)
        return place[1] if place is not None else None

    def waiting(self, tenant: str) -> int:
        """Return the number of a tenant's tasks with priority QUEUED."""
        return self._queued[tenant]

    @property
    def behind_session(self) -> int:
        """The number of tasks that must wait until another task of their session has ended."""
        return self._behind_session

    def is_behind_session(self, task_id: str) -> bool:
        """Return whether a queued task must wait until another task of its session has ended."""
        runnable = self._places[task_id][1]
        session = self._sessions.get((runnable.tenant, runnable.session_id)) if runnable.session_id else None
        return session is not None and (session.is_busy or self._first_of(session) != task_id)

    def resumed(self) -> list[Runnable]:
        """Return the tasks with earlier attempts."""
        return [runnable for _, runnable in self._places.values() if runnable.priority is Priority.RESUMED]

    def push(self, runnable: Runnable) -> bool:
        """Append a task to its queue. Return False if it is already queued with the same or a newer attempt.

        Raises:
            QueueFullError: its priority is QUEUED, and its tenant has `queued_max` such tasks.
        """
        place = self._places.get(runnable.task_id)
        if place is not None:
            if place[1].attempt >= runnable.attempt:
                return False
            self.remove(runnable.task_id)
        if runnable.priority is Priority.QUEUED and self._queued[runnable.tenant] >= self.queued_max:
            raise QueueFullError
        self._add(runnable, next(self._order))
        return True

    def put_back(self, runnable: Runnable) -> None:
        """Return a claimed task to the front of its queue. Its session stays busy until `release`."""
        if runnable.task_id not in self._places:
            self._add(runnable, next(self._front))

    def pop(self) -> Runnable | None:
        """Claim the next task; None if no task can be started."""
        for tenants in self._tenants.values():
            while tenants:
                tenant = next(iter(tenants))
                hints = tenants.pop(tenant)
                runnable = self._claimable(hints)
                if hints:
                    tenants[tenant] = hints  # last in the round-robin order
                if runnable is not None:
                    self._take(runnable)
                    return runnable
        return None

    def release(self, tenant: str, session_id: str) -> None:
        """Mark a session as free: no task of it is driven any more, and the next one may start."""
        session = self._sessions.get((tenant, session_id))
        if session is not None:
            session.is_busy = False
            self._count_behind(session)
            self._offer_first((tenant, session_id), session)
            self._tidy()

    def remove(self, task_id: str) -> bool:
        """Remove a task from its queue. Return False if it is not queued."""
        place = self._places.get(task_id)
        if place is None:
            return False
        runnable = place[1]
        self._forget(runnable)
        if runnable.session_id:
            key = (runnable.tenant, runnable.session_id)
            self._offer_first(key, self._sessions[key])
        self._tidy()
        return True

    def _add(self, runnable: Runnable, order: int) -> None:
        self._places[runnable.task_id] = order, runnable
        if runnable.priority is Priority.QUEUED:
            self._queued[runnable.tenant] += 1
        if not runnable.session_id:
            self._hint(runnable, order)
            return
        key = (runnable.tenant, runnable.session_id)
        session = self._sessions.setdefault(key, _Session())
        session.size += 1
        self._count_behind(session)
        self._kept += 1
        heappush(session.line, (runnable.priority is not Priority.RESUMED, order, runnable.task_id))
        if self._first_of(session) == runnable.task_id:
            self._offer_first(key, session)

    def _hint(self, runnable: Runnable, order: int) -> None:
        self._kept += 1
        heappush(self._tenants[runnable.priority].setdefault(runnable.tenant, []), (order, runnable.task_id))

    def _claimable(self, hints: list[tuple[int, str]]) -> Runnable | None:
        while hints:
            order, task_id = heappop(hints)
            self._kept -= 1
            if self._is_claimable(order, task_id):
                return self._places[task_id][1]
        return None

    def _is_claimable(self, order: int, task_id: str) -> bool:
        if not self._has_place(order, task_id):
            return False
        return not self.is_behind_session(task_id)

    def _has_place(self, order: int, task_id: str) -> bool:
        place = self._places.get(task_id)
        return place is not None and place[0] == order

    def _take(self, runnable: Runnable) -> None:
        self._forget(runnable)
        if runnable.session_id:
            session = self._sessions[runnable.tenant, runnable.session_id]
            session.is_busy = True
            self._count_behind(session)

    def _forget(self, runnable: Runnable) -> None:
        del self._places[runnable.task_id]
        if runnable.priority is Priority.QUEUED:
            self._queued[runnable.tenant] -= 1
            if not self._queued[runnable.tenant]:
                del self._queued[runnable.tenant]
        if runnable.session_id:
            session = self._sessions[runnable.tenant, runnable.session_id]
            session.size -= 1
            self._count_behind(session)

    def _count_behind(self, session: _Session) -> None:
        behind = session.size if session.is_busy else max(0, session.size - 1)
        self._behind_session += behind - session.behind
        session.behind = behind

    def _offer_first(self, key: tuple[str, str], session: _Session) -> None:
        """Make the first task of a free session claimable; delete a free session without tasks."""
        first = self._first_of(session)
        if first is not None and not session.is_busy:
            order, runnable = self._places[first]
            self._hint(runnable, order)
        elif first is None and not session.is_busy:
            del self._sessions[key]

    def _first_of(self, session: _Session) -> str | None:
        line = session.line
        while line:
            _, order, task_id = line[0]
            if self._has_place(order, task_id):
                return task_id
            heappop(line)
            self._kept -= 1
        return None

    def _tidy(self) -> None:
        """Drop the hints and entries of removed tasks, because only claims drop them otherwise. A task has at most one
        hint and one entry, so the cost is proportional to the tasks removed since the last cleanup.
        """
        if self._kept <= STALE_MIN + 4 * len(self._places):
            return
        self._kept = 0
        for session in self._sessions.values():
            session.line = [entry for entry in session.line if self._has_place(*entry[1:])]
            heapify(session.line)
            self._kept += len(session.line)
        for tenants in self._tenants.values():
            for tenant, hints in list(tenants.items()):
                hints[:] = {hint for hint in hints if self._is_claimable(*hint)}
                heapify(hints)
                self._kept += len(hints)
                if not hints:
                    del tenants[tenant]

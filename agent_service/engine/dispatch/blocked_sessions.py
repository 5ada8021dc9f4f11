"""Sessions whose next task the store refused to start, because an earlier task of the session is unfinished."""

from __future__ import annotations

from collections.abc import Set

from agent_service.engine.dispatch.fair_queue import Runnable
from agent_service.errors import OverloadedError
from agent_service.journal.event_rules import TERMINAL
from agent_service.store.base import TaskIndex, TaskQuery
from agent_service.v1.task_pb2 import TaskState

# Blocking tasks checked in each round although they have not grown: an erased task leaves no other trace.
RECHECKED_MAX = 20
UNFINISHED = frozenset(TaskState.values()) - TERMINAL


class BlockedSessions:
    """Detects blocked sessions that are free again. The blocking task runs in another process, or waits for input."""

    def __init__(self, index: TaskIndex) -> None:
        self._index = index
        # By tenant and session: the task that must end first; "" if it is unknown.
        self._blocked_by: dict[tuple[str, str], str] = {}
        # Blocking tasks: all that were checked, in the order of their last check, and those that have grown since.
        self._known: dict[str, None] = {}
        self._grown: set[str] = set()

    def __len__(self) -> int:
        return len(self._blocked_by)

    async def add(self, runnable: Runnable) -> None:
        """Record that the session of this task is busy."""
        self._blocked_by[runnable.tenant, runnable.session_id] = await self._first_of_session(runnable)

    def discard(self, tenant: str, session_id: str) -> None:
        """Forget a session."""
        self._blocked_by.pop((tenant, session_id), None)

    def notice_growth(self, task_ids: Set[str]) -> None:
        """Record that the journals of these tasks have grown."""
        self._grown.update(task_id for task_id in self._blocked_by.values() if task_id in task_ids)

    async def free(self) -> list[tuple[str, str]]:
        """Return the sessions, with their tenants, whose blocking task has ended or was erased.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        blockers = set(self._blocked_by.values())
        self._known = {task_id: None for task_id in self._known if task_id in blockers}
        self._grown &= blockers
        due = blockers - self._known.keys() | self._grown
        ended = set()
        for task_id in [*due, *(known for known in list(self._known)[:RECHECKED_MAX] if known not in due)]:
            row = await self._index.find(task_id)
            if row is None or row.state in TERMINAL:
                ended.add(task_id)
            self._grown.discard(task_id)
            self._known.pop(task_id, None)
            self._known[task_id] = None
        return [session for session, blocker in self._blocked_by.items() if blocker in ended]

    async def _first_of_session(self, runnable: Runnable) -> str:
        """Return the oldest unfinished task of a session; "" if it is unknown."""
        query = TaskQuery(runnable.tenant, session_id=runnable.session_id, states=UNFINISHED, limit=1000)
        try:
            rows = (await self._index.list_tasks(query)).rows
        except OverloadedError:
            return ""
        return rows[-1].task_id if rows and rows[-1].task_id != runnable.task_id else ""

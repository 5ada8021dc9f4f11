"""Reads tasks for callers, one by one and in lists, as far as a key may see them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
import time
from collections.abc import Sequence
from dataclasses import replace

from agent_service.engine.dispatch.base import Dispatcher
from agent_service.engine.journal_reading import PAGE, read_folded
from agent_service.engine.sweeps.waits import WaitOf
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import FieldViolation, NotFoundError, PermissionDeniedError, ValidationError
from agent_service.journal.event_rules import TERMINAL
from agent_service.keys.base import Principal, Scope
from agent_service.service.keyed_lock import KeyedLock
from agent_service.service.requests import ListTasksInput
from agent_service.store.base import Journal, TaskIndex, TaskPage, TaskQuery, TaskRow
from agent_service.text.ids import is_id
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Task

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
# Clients in other languages receive 4 MiB.
PAGE_BYTES_MAX = 3 * 1024 * 1024
# Events that are folded for one page, of tasks that have not ended or had several attempts.
PAGE_EVENTS_MAX = 10_000
# Tasks that the store scans at a time, and the total time for one page.
WALKED_MAX = 2_000
LOOK_S = 0.25
# Folding a long journal for a caller pauses for three times as long as it works: see `read_folded`.
REST = 3.0
# Tasks that are folded before control returns to the event loop.
TASKS_AT_ONCE = 10
# The cursor of the last row, and the first bytes of the list's digest.
TOKEN = struct.Struct(">q8s")


class TaskReader:
    """Finds tasks, in the store and among those that run here."""

    def __init__(self, journal: Journal, index: TaskIndex, dispatcher: Dispatcher, wait_of: WaitOf) -> None:
        self._dispatcher = dispatcher
        self._wait_of = wait_of
        self._journal = journal
        self._index = index
        self._lock = KeyedLock(rest=2.0)

    async def find(self, principal: Principal, task_id: str) -> TaskRow:
        """Return the task's row. The cost does not depend on the length of its journal.

        Raises:
            NotFoundError: as `visible`.
        """
        row = await self._index.find(task_id) if is_id(task_id) else None
        if row is None or not _may_see(principal, row.tenant):
            raise no_such_task(task_id)
        return row

    async def get(self, principal: Principal, task_id: str) -> Task:
        """Return the task. For a task that ended in its first attempt, only two events are read. Long journals are read
        one at a time for each tenant.

        Raises:
            NotFoundError: as `visible`.
        """
        row = await self.find(principal, task_id)
        if _first_and_last_suffice(row) or row.last.sequence <= PAGE:
            return await self._task(row, with_output=True)
        async with self._lock.hold(principal.tenant):
            return await self._task(row, with_output=True)

    async def visible(self, principal: Principal, task_id: str) -> FoldedTask:
        """Return the task, folded from its whole journal.

        Raises:
            NotFoundError: TASK_NOT_FOUND, also for tasks of other tenants and for malformed ids.
        """
        await self.find(principal, task_id)
        folded = await read_folded(self._journal, task_id)
        if not folded.task.state:  # erased meanwhile
            raise no_such_task(task_id)
        return folded

    async def list_tasks(self, principal: Principal, wanted: ListTasksInput) -> tuple[list[Task], str]:
        """Return a page of tasks, and the token of the next page. Lists are made one at a time for each tenant.

        Raises:
            PermissionDeniedError: SCOPE_MISSING, for another tenant. ValidationError: the token is of another list.
        """
        size = min(wanted.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = wanted.digest()[:8]
        query = TaskQuery(
            tenant=tenant_wanted(principal, wanted.tenant),
            agent=wanted.agent,
            states=wanted.states,
            session_id=wanted.session_id,
            labels=wanted.labels,
            created_since_us=wanted.created_since,
            created_before_us=wanted.created_before,
            before=_cursor(wanted.page_token, digest),
            limit=size + 1,
            walked_max=WALKED_MAX,
            submitted_by=wanted.submitted_by,
        )
        async with self._lock.hold(principal.tenant):
            rows, rest = await self._rows(query)
            tasks = await self._page(rows, size, wanted)
        if len(tasks) < len(rows):
            rest = rows[len(tasks) - 1].cursor
        return tasks, "" if rest is None else base64.urlsafe_b64encode(TOKEN.pack(rest, digest)).decode()

    async def _rows(self, query: TaskQuery) -> TaskPage:
        """Return as many rows as requested, or as can be found in LOOK_S."""
        until = time.monotonic() + LOOK_S
        rows, wanted = list[TaskRow](), query.limit
        while True:
            page = await self._index.list_tasks(query)
            rows += page.rows
            if page.rest is None or len(rows) == wanted or time.monotonic() > until:
                return TaskPage(rows, page.rest)
            query = replace(query, before=page.rest, limit=wanted - len(rows))

    async def _page(self, rows: Sequence[TaskRow], size: int, wanted: ListTasksInput) -> list[Task]:
        """Return the tasks of up to `size` rows; fewer if they exceed PAGE_BYTES_MAX or PAGE_EVENTS_MAX."""
        tasks: list[Task] = []
        room, events_left = PAGE_BYTES_MAX, PAGE_EVENTS_MAX
        for row in rows[:size]:
            events_left -= 0 if _first_and_last_suffice(row) else row.last.sequence
            if tasks and events_left < 0:
                break
            task = await self._task(row, with_output=wanted.full)
            if not wanted.full:
                task.task = task.output = ""
                task.ClearField("output_struct")
            room -= task.ByteSize()
            if tasks and room < 0:
                break
            tasks.append(task)
            if len(tasks) % TASKS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return tasks

    async def _task(self, row: TaskRow, *, with_output: bool) -> Task:
        """Return the task of a row. The whole journal is read only if it has not ended, or not in one attempt."""
        if _first_and_last_suffice(row):
            return FoldedTask.of_first_and_last(row.first, row.last, row.attempt, with_output=with_output).task
        running = self._dispatcher.find(row.task_id)
        task = Task()
        folded = running.folded if running and running.is_current(row.attempt, row.last.sequence) else None
        if folded is None:
            folded = await self._folded(row.task_id)
        task.CopyFrom(folded.task)
        if (
            task.state not in TERMINAL
            and (waiting := self._wait_of(task.id, task.attempt, task.update_time)) is not None
        ):
            task.waiting.CopyFrom(waiting)
        return task

    async def _folded(self, task_id: str) -> FoldedTask:
        return await read_folded(self._journal, task_id, rest=REST)


def _first_and_last_suffice(row: TaskRow) -> bool:
    return row.state in TERMINAL and row.attempt <= 1


def no_such_task(task_id: str) -> NotFoundError:
    """Return the error for a task that does not exist or that the caller may not see. A malformed id is shown up to the
    maximum length of an id.
    """
    message, shown = "there is no such task", task_id[:128]
    return NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, message, metadata={"task_id": shown})


def tenant_wanted(principal: Principal, wanted: str) -> str | None:
    """Return the tenant whose tasks or usage a request may read: `wanted`, or the caller's own for "". None: all.

    Raises:
        PermissionDeniedError: SCOPE_MISSING, for another tenant.
    """
    if wanted in ("", principal.tenant):
        return principal.tenant
    if Scope.ADMIN not in principal.scopes:
        message = f"the key lacks the scope {Scope.ADMIN}, which other tenants take"
        raise PermissionDeniedError(reasons.ERROR_REASON_SCOPE_MISSING, message, metadata={"scope": Scope.ADMIN})
    return None if wanted == "*" else wanted


def _cursor(token: str, digest: bytes) -> int | None:
    if not token:
        return None
    try:
        cursor, of_list = TOKEN.unpack(base64.urlsafe_b64decode(token))
    except (binascii.Error, struct.error, ValueError):
        of_list = b""
    if of_list != digest:
        problem = "must be the next_page_token of the page before, with everything else as it was"
        raise ValidationError([FieldViolation("page_token", problem)])
    return int(cursor)


def _may_see(principal: Principal, tenant: str) -> bool:
    return tenant == principal.tenant or Scope.ADMIN in principal.scopes

"""Reads tasks for callers: what a key may see, one by one and in lists."""

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
from agent_service.engine.runtime import Ports
from agent_service.engine.sweeps.waits import WaitOf
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import FieldViolation, NotFoundError, PermissionDeniedError, ValidationError
from agent_service.journal.event_rules import TERMINAL
from agent_service.keys.base import Principal, Scope
from agent_service.service.requests import ListTasksInput
from agent_service.service.turns import Turns
from agent_service.store.base import TaskPage, TaskQuery, TaskRow
from agent_service.text.ids import is_id
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Task

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
# Clients in other languages receive 4 MiB.
PAGE_BYTES_MAX = 3 * 1024 * 1024
# Events that are folded for one page, of tasks that have not ended, or were begun more than once.
PAGE_EVENTS_MAX = 10_000
# Tasks that the store looks through at a time, and for how long it goes on for one page.
WALKED_MAX = 2_000
LOOK_S = 0.25
# While a long journal is folded for a caller, the loop is others' for three times as long.
REST = 3.0
# Tasks that are folded between two turns of the loop.
TASKS_AT_ONCE = 10
# The cursor of the last row, and the beginning of the list's digest.
TOKEN = struct.Struct(">q8s")


class TaskReader:
    """Looks tasks up, in the store and among those that run here."""

    def __init__(self, ports: Ports, dispatcher: Dispatcher, wait_of: WaitOf) -> None:
        self._dispatcher = dispatcher
        self._wait_of = wait_of
        self._journal = ports.journal
        self._index = ports.index
        self._turns = Turns(rest=2.0)

    async def find(self, principal: Principal, task_id: str) -> TaskRow:
        """The task's row, however long its journal is.

        Raises:
            NotFoundError: as `visible`.
        """
        row = await self._index.find(task_id) if is_id(task_id) else None
        if row is None or not _may_see(principal, row.tenant):
            raise no_such_task(task_id)
        return row

    async def get(self, principal: Principal, task_id: str) -> Task:
        """The task as it stands; of one that has ended in its first attempt two events are read, however many it has.
        Long journals are read one at a time for each tenant.

        Raises:
            NotFoundError: as `visible`.
        """
        row = await self.find(principal, task_id)
        if _is_told_by_its_ends(row) or row.last.sequence <= PAGE:
            return await self._task(row, with_output=True)
        async with self._turns.turn(principal.tenant):
            return await self._task(row, with_output=True)

    async def visible(self, principal: Principal, task_id: str) -> FoldedTask:
        """The task, folded from its whole journal.

        Raises:
            NotFoundError: TASK_NOT_FOUND, also for another tenant's and for what is no id at all.
        """
        await self.find(principal, task_id)
        folded = await read_folded(self._journal, task_id)
        if not folded.task.state:  # erased meanwhile
            raise no_such_task(task_id)
        return folded

    async def list_tasks(self, principal: Principal, wanted: ListTasksInput) -> tuple[list[Task], str]:
        """A page of tasks, and the token of the next one. Lists are made one at a time for each tenant.

        Raises:
            PermissionDeniedError: SCOPE_MISSING, another tenant's. ValidationError: the token is of another list.
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
        async with self._turns.turn(principal.tenant):
            rows, rest = await self._rows(query)
            tasks = await self._page(rows, size, wanted)
        if len(tasks) < len(rows):
            rest = rows[len(tasks) - 1].cursor
        return tasks, "" if rest is None else base64.urlsafe_b64encode(TOKEN.pack(rest, digest)).decode()

    async def _rows(self, query: TaskQuery) -> TaskPage:
        """As many rows as are wanted, or as can be found in LOOK_S."""
        until = time.monotonic() + LOOK_S
        rows, wanted = list[TaskRow](), query.limit
        while True:
            page = await self._index.list_tasks(query)
            rows += page.rows
            if page.rest is None or len(rows) == wanted or time.monotonic() > until:
                return TaskPage(rows, page.rest)
            query = replace(query, before=page.rest, limit=wanted - len(rows))

    async def _page(self, rows: Sequence[TaskRow], size: int, wanted: ListTasksInput) -> list[Task]:
        """The tasks of so many rows, fewer where they are long."""
        tasks: list[Task] = []
        room, events_left = PAGE_BYTES_MAX, PAGE_EVENTS_MAX
        for row in rows[:size]:
            events_left -= 0 if _is_told_by_its_ends(row) else row.last.sequence
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
        """The task of a row; the whole journal is read of those alone that have not ended, or not in one attempt."""
        if _is_told_by_its_ends(row):
            return FoldedTask.of_ends(row.first, row.last, row.attempt, with_output=with_output).task
        running = self._dispatcher.find(row.task_id)
        task = Task()
        folded = running.folded if running and running.knows(row.attempt, row.last.sequence) else None
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


def _is_told_by_its_ends(row: TaskRow) -> bool:
    return row.state in TERMINAL and row.attempt <= 1


def no_such_task(task_id: str) -> NotFoundError:
    """There is none, or none for who asks. What is no id is shown as far as an id could be long."""
    message, shown = "there is no such task", task_id[:128]
    return NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, message, metadata={"task_id": shown})


def tenant_wanted(principal: Principal, wanted: str) -> str | None:
    """Return whose tasks, or usage, a caller may see who wants to see these; None for everybody's.

    Raises:
        PermissionDeniedError: SCOPE_MISSING, another tenant's.
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
        told = "must be the next_page_token of the page before, with everything else as it was"
        raise ValidationError([FieldViolation("page_token", told)])
    return int(cursor)


def _may_see(principal: Principal, tenant: str) -> bool:
    return tenant == principal.tenant or Scope.ADMIN in principal.scopes

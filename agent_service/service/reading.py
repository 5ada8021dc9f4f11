"""Reads tasks for callers: what a key may see, one by one and in lists."""

from __future__ import annotations

import base64
import binascii
import struct

from agent_service.engine.reading import read_folded
from agent_service.engine.runner import Runner
from agent_service.engine.task_state import FoldedTask
from agent_service.errors import FieldViolation, NotFoundError, PermissionDeniedError, ValidationError
from agent_service.keys.base import Principal, Scope
from agent_service.service.ids import ID
from agent_service.service.requests import ListTasksInput
from agent_service.store.base import TERMINAL, TaskQuery, TaskRow
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Task

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
# Clients in other languages receive 4 MiB.
PAGE_BYTES_MAX = 3 * 1024 * 1024
# Events that are folded for one page, of tasks that have not ended, or were begun more than once.
PAGE_EVENTS_MAX = 10_000
# The cursor of the last row, and the beginning of the list's digest.
TOKEN = struct.Struct(">q8s")


class TaskReader:
    """Looks tasks up, in the store and among those that run here."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._store = runner.ports.store

    async def find(self, principal: Principal, task_id: str) -> TaskRow:
        """The task's row, however long its journal is.

        Raises:
            NotFoundError: as `visible`.
        """
        row = await self._store.find(task_id) if ID.fullmatch(task_id) else None
        if row is None or not _may_see(principal, row.tenant):
            raise no_such_task(task_id)
        return row

    async def get(self, principal: Principal, task_id: str) -> Task:
        """The task as it stands; of one that has ended in its first attempt two events are read, however many it has.

        Raises:
            NotFoundError: as `visible`.
        """
        return await self._task(await self.find(principal, task_id), with_output=True)

    async def visible(self, principal: Principal, task_id: str) -> FoldedTask:
        """The task, folded from its whole journal.

        Raises:
            NotFoundError: TASK_NOT_FOUND, also for another tenant's and for what is no id at all.
        """
        await self.find(principal, task_id)
        folded = await read_folded(self._store, task_id)
        if not folded.task.state:  # erased meanwhile
            raise no_such_task(task_id)
        return folded

    async def list_tasks(self, principal: Principal, wanted: ListTasksInput) -> tuple[list[Task], str]:
        """A page of tasks, and the token of the next one.

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
        )
        rows = await self._store.list_tasks(query)
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
        if len(tasks) == len(rows):
            return tasks, ""
        return tasks, base64.urlsafe_b64encode(TOKEN.pack(rows[len(tasks) - 1].cursor, digest)).decode()

    async def _task(self, row: TaskRow, *, with_output: bool) -> Task:
        """The task of a row; the whole journal is read of those alone that have not ended, or not in one attempt."""
        if _is_told_by_its_ends(row):
            return FoldedTask.of_ends(row.first, row.last, row.attempt, with_output=with_output).task
        running = self._runner.running.get(row.task_id)
        task = Task()
        folded = running.folded if running and running.knows(row.attempt, row.last.sequence) else None
        if folded is None:
            folded = await read_folded(self._store, row.task_id)
        task.CopyFrom(folded.task)
        return task


def _is_told_by_its_ends(row: TaskRow) -> bool:
    return row.state in TERMINAL and row.attempt <= 1


def no_such_task(task_id: str) -> NotFoundError:
    """There is none, or none for who asks. What is no id is shown as far as an id could be long."""
    message, shown = "there is no such task", task_id[:128]
    return NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, message, metadata={"task_id": shown})


def tenant_wanted(principal: Principal, wanted: str) -> str | None:
    """Whose tasks, or usage, a caller may see who wants to see these; None for everybody's.

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

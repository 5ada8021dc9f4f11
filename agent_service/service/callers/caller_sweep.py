"""Cancels tasks that need callers and have none, across all processes of a store.

A process publishes which tasks have callers here, and periodically checks whether the tasks that run or are queued here
have any: the process of the last caller may have died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from contextlib import suppress
from itertools import islice

from agent_service.engine.dispatch.base import LineView
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.sweeps.heartbeat import Heartbeat
from agent_service.engine.timing import Timing
from agent_service.errors import OverloadedError
from agent_service.service.callers.attached import Callers, needs_caller
from agent_service.store.base import TaskIndex, Workers
from agent_service.v1.task_pb2 import ON_DISCONNECT_DETACH

# First events of queued tasks that are read in one round: they contain `on_disconnect`.
READ_AT_ONCE = 100


class CallersElsewhere:
    """The callers that tasks have at other processes of the store."""

    def __init__(self, heartbeat: Heartbeat, timing: Timing) -> None:
        self._heartbeat = heartbeat
        self._published_within_s = timing.publish_callers

    async def has(self, task_id: str) -> bool:
        """Return whether the task has callers at another process. First waits for `publish_callers`: within that time
        every process publishes the callers that it had before this call.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        if self._heartbeat.peers.living:
            await asyncio.sleep(self._published_within_s)
        return task_id in (await self._heartbeat.send()).attached


class CallerSweep:
    """Starts the reattach timer of tasks whose last caller was attached to another process."""

    def __init__(
        self,
        index: TaskIndex,
        workers: Workers,
        worker: str,
        running: Mapping[str, RunningTask],
        line: LineView,
        callers: Callers,
        heartbeat: Heartbeat,
    ) -> None:
        self._index = index
        self._workers = workers
        self._worker = worker
        self._running = running
        self._line = line
        self._callers = callers
        self._heartbeat = heartbeat
        self._published: Set[str] = frozenset()
        # For each queued task, whether it needs callers.
        self._queued: dict[str, bool] = {}

    async def look(self) -> None:
        """Publish the callers of this process, and check the tasks here that may have none.

        Raises:
            OverloadedError: STORE_UNAVAILABLE; nothing is abandoned meanwhile.
        """
        await self._publish()
        await self._look()

    async def _publish(self) -> None:
        attached = frozenset(self._callers.attached()) if self._heartbeat.peers.living else frozenset()
        if attached != self._published:
            await self._workers.publish_callers(self._worker, attached)
            self._published = attached

    async def _look(self) -> None:
        elsewhere = self._heartbeat.peers.attached
        for task_id, running in list(self._running.items()):
            if needs_caller(running.folded):
                self._check(task_id, elsewhere)
        queued = self._line.task_ids
        self._queued = {task_id: needs for task_id, needs in self._queued.items() if task_id in queued}
        for task_id in list(islice((task_id for task_id in queued if task_id not in self._queued), READ_AT_ONCE)):
            with suppress(OverloadedError):  # an unreadable task must not stop the others
                row = await self._index.find(task_id)
                self._queued[task_id] = row is not None and row.first.submitted.on_disconnect != ON_DISCONNECT_DETACH
        for task_id, needs in self._queued.items():
            if needs:
                self._check(task_id, elsewhere)

    def _check(self, task_id: str, elsewhere: Set[str]) -> None:
        if task_id in elsewhere:
            self._callers.note_caller_elsewhere(task_id)
        else:
            self._callers.expect_return(task_id)

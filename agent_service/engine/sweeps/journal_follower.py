"""Follows appends of all processes to the store's journals, for tasks that are watched, running or blocking here."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from agent_service.engine.dispatch.local import LocalDispatcher
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.errors import OverloadedError
from agent_service.feed.base import Feed
from agent_service.observe.log import EventLog
from agent_service.store.base import Change, Journal

# Running tasks are checked every this many intervals, for example for a cancellation written by another process.
RUNNING_EVERY = 8
# Changes that are read at a time.
PAGE = 1000


class JournalFollower:
    """Notifies watchers of tasks that run elsewhere, tasks that run here, and the dispatcher, of journals that grew."""

    def __init__(
        self,
        journal: Journal,
        feed: Feed,
        running: Mapping[str, RunningTask],
        dispatcher: LocalDispatcher,
        log: EventLog,
    ) -> None:
        self._running = running
        self._dispatcher = dispatcher
        self._journal = journal
        self._feed = feed
        self._log = log
        # The position up to which the journals have been followed; None before the first round.
        self._position: int | None = None
        # The watched tasks that do not run here, as of the last round.
        self._elsewhere: frozenset[str] = frozenset()
        # Tasks that run here, with the last sequence that their stored journals are known to have.
        self._heads: dict[str, int] = {}
        self._unreadable: set[str] = set()
        self._round = 0

    async def follow(self) -> None:
        """Run one round.

        Raises:
            OverloadedError: STORE_UNAVAILABLE; the next round continues from the same position.
        """
        self._round += 1
        checks_running = self._round % RUNNING_EVERY == 0
        if checks_running or self._watched_elsewhere():
            await self._follow()
        if checks_running:
            await self._look_at_running()

    def _watched_elsewhere(self) -> frozenset[str]:
        return frozenset(task_id for task_id in self._feed.watched() if task_id not in self._running)

    async def _follow(self) -> None:
        if self._position is None:
            self._position = await self._begin()
        while True:
            changes = await self._journal.follow(self._position, limit=PAGE)
            if changes:
                self._notify(changes)
                self._position = changes[-1].position
            if len(changes) < PAGE:
                break
        # New watchers read the journal first. But watchers of a task that ran here until now may lack events that
        # other processes wrote meanwhile.
        elsewhere = self._watched_elsewhere()
        for task_id in elsewhere - self._elsewhere:
            self._feed.notify(task_id)
        self._elsewhere = elsewhere

    async def _begin(self) -> int:
        """Return the position to follow from. Tasks that run already are checked once: they began before it."""
        position = await self._journal.position()
        for running in list(self._running.values()):
            self._heads[running.task_id] = running.folded.task.last_sequence + 1
        return position

    def _notify(self, changes: list[Change]) -> None:
        running, watched = self._running, self._feed.watched()
        for task_id, last_sequence, _ in changes:
            if task_id in running:
                self._heads[task_id] = last_sequence
            elif task_id in watched:
                self._feed.notify(task_id)
        self._dispatcher.notice_growth({change.task_id for change in changes})

    async def _look_at_running(self) -> None:
        self._unreadable.intersection_update(self._running)
        for task_id, last_sequence in list(self._heads.items()):
            if task_id not in self._running or await self._look_at(task_id, last_sequence):
                self._heads.pop(task_id, None)

    async def _look_at(self, task_id: str, last_sequence: int) -> bool:
        """Check one task. Return False if it must be checked again. An unreadable journal must not stop the others."""
        running = self._running[task_id]
        try:
            return await running.look_if_behind(last_sequence)
        except OverloadedError:
            return False
        except DecodeError as error:
            if task_id not in self._unreadable:
                self._unreadable.add(task_id)
                self._log.error("task_unreadable", error, task_id=task_id)
            return False

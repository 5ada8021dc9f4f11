"""Notices what other processes of the same store write about tasks that matter here."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.runtime import Ports
from agent_service.engine.sweeps.heartbeat import Heartbeat
from agent_service.errors import OverloadedError

# A cancel that another process has written reaches a task that runs here at every so many intervals.
RUNNING_EVERY = 8


class JournalFollower:
    """Looks at the journals of watched tasks that do not run here and, beside other processes, of those that do."""

    def __init__(self, ports: Ports, running: Mapping[str, RunningTask], heartbeat: Heartbeat) -> None:
        self._running = running
        self._heartbeat = heartbeat
        self._journal = ports.journal
        self._feed = ports.feed
        self._log = ports.log
        self._heads: dict[str, int] = {}
        self._unreadable: set[str] = set()
        self._turn = 0

    async def follow(self) -> None:
        """One round.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        self._turn += 1
        await self._look_at_watched()
        if self._turn % RUNNING_EVERY == 0 and self._heartbeat.peers.living:
            await self._look_at_running()

    async def _look_at_watched(self) -> None:
        """Notify watchers of journals that grew. New watchers read the journal first, so they miss nothing."""
        self._heads = {
            task_id: self._heads.get(task_id, 0) for task_id in self._feed.watched() if task_id not in self._running
        }
        if not self._heads:
            return
        for task_id, last_sequence in (await self._journal.grown(self._heads)).items():
            self._heads[task_id] = last_sequence
            self._feed.nudge(task_id)

    async def _look_at_running(self) -> None:
        heads = {task_id: one.folded.task.last_sequence for task_id, one in self._running.items()}
        self._unreadable.intersection_update(heads)
        if not heads:
            return
        for task_id, last_sequence in (await self._journal.grown(heads)).items():
            if task_id in self._running:
                await self._look_at(task_id, last_sequence)

    async def _look_at(self, task_id: str, last_sequence: int) -> None:
        """One task whose journal cannot be read must not keep the others from being followed."""
        try:
            await self._running[task_id].look(last_sequence)
        except OverloadedError:
            pass  # looked at again next time
        except DecodeError as error:
            if task_id not in self._unreadable:
                self._unreadable.add(task_id)
                self._log.error("task_unreadable", error, task_id=task_id)

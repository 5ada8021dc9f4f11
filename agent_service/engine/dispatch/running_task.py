"""A task that runs in this process: the interface for waiting, watching and stopping."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from agent_service.engine.attempt.stop import Stop
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.latch import Latch
from agent_service.v1.task_pb2 import Waiting


class RunningTask:
    """One attempt that this process drives. `stop` ends it early. `folded` is the task, perhaps ahead of the store.
    `takes_over` means that the previous attempt was lost with its process; valid once this one is accepted.
    """

    def __init__(self, journal: JournalWriter, stop: Stop, *, takes_over: bool = False) -> None:
        self.task_id = journal.task_id
        self.folded = journal.folded
        self.journal = journal
        self.stop = stop
        self.takes_over = takes_over
        self._ended = Latch()

    @property
    def is_settled(self) -> bool:
        """True if the task has durably ended or waits for input. Otherwise, if it no longer runs here, a later attempt
        or another process continues it.
        """
        return self.journal.is_closed or self.folded.is_waiting

    @property
    def is_synced(self) -> bool:
        """True if `folded` is not ahead of the store."""
        return self.journal.is_synced

    @property
    def was_stored(self) -> bool:
        """True if at least one event of this attempt is stored."""
        return self.journal.was_stored

    @property
    def waiting(self) -> Waiting | None:
        """The current wait of the attempt; None while it works."""
        return self.journal.waiting

    def is_current(self, attempt: int, last_sequence: int) -> bool:
        """Return whether the fold is durable and includes a journal of this attempt and sequence. Other processes may
        have written to the journal.
        """
        task = self.folded.task
        return self.is_synced and task.attempt == attempt and task.last_sequence >= last_sequence

    async def look(self) -> None:
        """Read events of other processes.

        Raises:
            OverloadedError: STORE_UNAVAILABLE. DecodeError: an event cannot be read.
        """
        await self.journal.look_once(self.folded.task.last_sequence)

    async def look_if_behind(self, last_sequence: int) -> bool:
        """As `look`, if the stored journal has this length and the fold is shorter. Return False if an append is under
        way and the journal must be checked again.
        """
        if self.journal.is_behind(last_sequence):
            await self.look()
            return True
        return self.folded.task.last_sequence >= last_sequence

    def accepted(self) -> Coroutine[Any, Any, None]:
        """Await this until the task is durably accepted.

        Raises:
            OverloadedError: STORE_UNAVAILABLE, nothing is stored.
            AppendRefusedError: its request_id names another task.
        """
        return self.journal.begun.wait()

    def ended(self) -> Coroutine[Any, Any, None]:
        """Await this until the terminal event is synced, or until this process no longer drives the task."""
        return self._ended.wait()

    def close(self) -> None:
        """End the attempt. Only the runner calls this."""
        self.journal.close()
        self._ended.reach()

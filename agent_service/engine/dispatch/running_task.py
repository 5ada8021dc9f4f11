"""A task that runs in this process, as those see it who wait for it, watch it or stop it."""

from __future__ import annotations

from agent_service.engine.attempt.stop import Stop
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.latch import Latch
from agent_service.v1.task_pb2 import Task, Waiting


class RunningTask:
    """One attempt that this process drives. `stop` ends it early; `folded` is the task, at times ahead of what is
    stored. `takes_over` says that the attempt before was lost with its process, once this one is accepted.
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
        """Whether the task has ended or waits for input, durably. One that does neither, though it no longer runs here,
        goes on later or elsewhere.
        """
        return self.journal.is_closed or self.folded.is_waiting

    @property
    def waiting(self) -> Waiting | None:
        """What the attempt waits for at this moment; None while it works."""
        return self.journal.waiting

    def knows(self, attempt: int, last_sequence: int) -> bool:
        """Whether the fold is durable and has all of a journal that stands there: others may have written to it."""
        task = self.folded.task
        return self.journal.is_synced and task.attempt == attempt and task.last_sequence >= last_sequence

    async def look(self) -> None:
        """Read what other processes have written.

        Raises:
            OverloadedError: STORE_UNAVAILABLE. DecodeError: what they wrote cannot be read.
        """
        await self.journal.look_once(self.folded.task.last_sequence)

    async def look_if_behind(self, last_sequence: int) -> bool:
        """As `look`, where the stored journal is this long and the fold is not; False if the attempt is writing, and
        the journal is to be looked at again.
        """
        if self.journal.is_behind(last_sequence):
            await self.look()
            return True
        return self.folded.task.last_sequence >= last_sequence

    async def accepted(self) -> None:
        """Return once the task is durably accepted.

        Raises:
            OverloadedError: STORE_UNAVAILABLE; it is not, and nothing of it is stored.
            AppendRefusedError: its request_id names another task.
        """
        await self.journal.begun.wait()

    async def ended(self) -> Task:
        """Return the task once its terminal event is synced, or once this process no longer drives it."""
        await self._ended.wait()
        return self.folded.task

    def close(self) -> None:
        """The attempt has ended. Called by the runner alone."""
        self.journal.close()
        self._ended.reach()

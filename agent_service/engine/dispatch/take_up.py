"""Decides whether this process may drive a task next. It is the only place that decides it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.engine.dispatch.session_history import history_of
from agent_service.engine.idle_tasks import IdleTasks
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.outcomes import rejected
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.store.base import Journal, TaskIndex
from agent_service.v1.task_pb2 import Failure


class Runtimes(Protocol):
    """Finds the runtime of a task."""

    def of(self, folded: FoldedTask) -> AgentRuntime | Failure:
        """Return the task's runtime, or the reason why its first attempt must not start."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next attempt at a task, which this process may start. `folded` includes the whole journal."""

    folded: FoldedTask
    runtime: AgentRuntime


@dataclass(frozen=True, slots=True)
class Rejected:
    """The task can no longer start. It was ended with this failure."""

    failure: Failure


class NotNow(Enum):
    """The reason why a task is not driven now."""

    ENDED = auto()
    """It has ended, or was erased."""
    WAITS_FOR_INPUT = auto()
    TAKEN = auto()
    """Its attempt differs from the expected one: a process has started it, and may still drive it."""
    QUARANTINED = auto()
    """It is suspected of killing processes, and another such task runs here."""


class Adopter:
    """Takes up tasks that were queued, were answered, or were left unfinished by a process."""

    def __init__(
        self, journal: Journal, index: TaskIndex, idle: IdleTasks, runtimes: Runtimes, quarantine: Quarantine
    ) -> None:
        self._journal = journal
        self._index = index
        self._idle = idle
        self._runtimes = runtimes
        self._quarantine = quarantine

    async def take_up(self, task_id: str, attempt: int) -> Attempt | Rejected | NotNow:
        """Return the attempt that follows `attempt`, the newest one that the caller knows (0: none yet).

        This writes nothing to a task that may continue, so any number of processes may call it at once. The store
        decides between them: it admits the first event of attempt N+1 from one process, and only directly after the
        last event that was read here.

        Raises:
            OverloadedError: STORE_UNAVAILABLE. DecodeError, ForbiddenTransitionError: the journal cannot be read.
        """
        folded = await read_folded(self._journal, task_id)
        if folded.is_terminal or not folded.task.state:
            return NotNow.ENDED
        if folded.is_waiting:
            return NotNow.WAITS_FOR_INPUT
        if folded.task.attempt != attempt:
            return NotNow.TAKEN
        runtime = self._runtimes.of(folded)
        if isinstance(runtime, Failure):
            await self._idle.append(folded, rejected(runtime))
            return Rejected(runtime)
        if not self._quarantine.admits(task_id, folded):
            return NotNow.QUARANTINED
        if folded.submitted.session_id:
            folded.begin_with(await history_of(self._index, self._journal, folded, runtime))
        return Attempt(folded, runtime)

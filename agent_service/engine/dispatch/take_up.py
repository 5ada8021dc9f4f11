"""Who may drive a task next: the one place that decides it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.engine.dispatch.session_history import history_of
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.outcomes import append_idle, rejected
from agent_service.engine.runtime import AgentRuntime, Ports
from agent_service.engine.task.state import FoldedTask
from agent_service.v1.task_pb2 import Failure


class Runtimes(Protocol):
    """What tasks run on."""

    def of(self, folded: FoldedTask) -> AgentRuntime | Failure:
        """Return what the task runs on, or why its first attempt must not begin."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next attempt at a task, which this process may begin. `folded` has all of the journal."""

    folded: FoldedTask
    runtime: AgentRuntime


@dataclass(frozen=True, slots=True)
class Rejected:
    """The task cannot begin any more. It has been ended with this failure."""

    failure: Failure


class NotNow(Enum):
    """Why a task is not driven now."""

    ENDED = auto()
    """It has ended, or was erased."""
    WAITS_FOR_INPUT = auto()
    TAKEN = auto()
    """It has another attempt than the one that was expected: some process has begun it, and drives it or did."""
    QUARANTINED = auto()
    """It may be what ends the process, and another such task runs here."""


class Adopter:
    """Takes tasks up: those that were queued, those that were answered, and those that a process left unfinished."""

    def __init__(self, ports: Ports, runtimes: Runtimes, quarantine: Quarantine) -> None:
        self._ports = ports
        self._runtimes = runtimes
        self._quarantine = quarantine

    async def take_up(self, task_id: str, attempt: int) -> Attempt | Rejected | NotNow:
        """Return the attempt that follows `attempt`, the newest one that the caller knows of (0: none yet).

        This writes nothing to a task that may go on, so any number of processes may do it at once. The store decides
        between them: it admits the first event of attempt N+1 from one of them, and only behind the last event that was
        read here.

        Raises:
            OverloadedError: STORE_UNAVAILABLE. DecodeError, ForbiddenTransitionError: the journal cannot be read.
        """
        folded = await read_folded(self._ports.journal, task_id)
        if folded.is_terminal or not folded.task.state:
            return NotNow.ENDED
        if folded.is_waiting:
            return NotNow.WAITS_FOR_INPUT
        if folded.task.attempt != attempt:
            return NotNow.TAKEN
        runtime = self._runtimes.of(folded)
        if isinstance(runtime, Failure):
            await append_idle(self._ports, folded, rejected(runtime))
            return Rejected(runtime)
        if not self._quarantine.admits(task_id, folded):
            return NotNow.QUARANTINED
        if folded.submitted.session_id:
            folded.begin_with(await history_of(self._ports.index, self._ports.journal, folded, runtime))
        return Attempt(folded, runtime)

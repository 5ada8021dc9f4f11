"""The dispatcher port: stores, starts and cancels tasks. Also the view of the tasks that wait in this process."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agent_service.engine.dispatch.fair_queue import Runnable
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.v1.task_event_pb2 import TaskSubmitted
from agent_service.v1.task_pb2 import CancelCause, WaitCause


class Submission(NamedTuple):
    """A stored task. `running` is None if this process does not drive it yet."""

    folded: FoldedTask
    running: RunningTask | None = None


def always(_: FoldedTask) -> bool:
    """Return True for every task."""
    return True


class Dispatcher(Protocol):
    """Stores new tasks, and ensures that one process at a time drives each until it ends or waits for input.

    All its state is in the journals: if a process dies during a call, another process finds the task.
    """

    async def submit(
        self, task_id: str, submitted: TaskSubmitted, runtime: AgentRuntime, *, may_wait: bool
    ) -> Submission:
        """Store a new task durably, and begin it. It is queued if its session is busy and, with `may_wait`, if all
        slots are taken. If the call is cancelled, the task may be stored or not.

        Raises:
            OverloadedError: OVERLOADED, no slot and no place in the queue; STORE_UNAVAILABLE. AppendRefusedError: the
            task breaks a rule of the store. Nothing is stored then.
        """

    def resume(self, folded: FoldedTask) -> None:
        """Continue a task whose pending inputs are answered. The answers are in its journal."""

    async def cancel(
        self,
        task_id: str,
        cause: CancelCause.ValueType,
        requested_by: str = "",
        *,
        only_if: Callable[[FoldedTask], bool] = always,
    ) -> None:
        """Cancel the task if `only_if` returns True for it, whether it runs here, runs in another process, or waits.
        `requested_by` is the id of the key that requested it, if there was one. Does not wait until an attempt in
        another process stops.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """

    def find(self, task_id: str) -> RunningTask | None:
        """Return the task if this process drives it now."""

    async def drain(self, grace_s: float) -> None:
        """Start no more tasks, give running ones this long to end, and durably release the rest to other processes. A
        task that only waits for a limit is released at once.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """A waiting task: its newest attempt when it was queued, and the cause of its wait."""

    attempt: int
    cause: WaitCause.ValueType
    is_quarantined: bool = False


class LineCounts(NamedTuple):
    """The number of queued tasks, and of those that wait for an earlier task of their session. While the line
    `is_paused`, because the store was unavailable, none is started.
    """

    waiting: int
    behind_session: int
    is_paused: bool


class LineView(Protocol):
    """The tasks that wait in this process to be started."""

    @property
    def task_ids(self) -> Set[str]:
        """The queued tasks, in order."""

    @property
    def counts(self) -> LineCounts:
        """The numbers of queued tasks. May be read from another thread."""

    def find(self, task_id: str) -> Place | None:
        """Return the place of a task; None if it has none, or is being started."""

    def resumed(self) -> list[Runnable]:
        """Return the tasks that have had an attempt and wait for the next one, quarantined ones included."""

    def take_new(self) -> frozenset[str]:
        """Return the tasks queued since the last call; only the newest ones if there are very many."""

"""The dispatcher port: where accepted tasks go, and how they are stopped. Beside it, the view of what waits here."""

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


@dataclass(frozen=True, slots=True)
class Submission:
    """A task that is stored. `running` is None where this process does not drive it yet."""

    folded: FoldedTask
    running: RunningTask | None = None


def always(_: FoldedTask) -> bool:
    """Hold for every task."""
    return True


class Dispatcher(Protocol):
    """Stores new tasks, and sees to it that each is driven by one process at a time until it ends or waits for input.

    All that it knows is in the journals: where a call is lost with its process, another process finds the task.
    """

    async def submit(
        self, task_id: str, submitted: TaskSubmitted, runtime: AgentRuntime, *, may_wait: bool
    ) -> Submission:
        """Store a new task durably, and begin it. It waits for its turn where its session is busy and, if it
        `may_wait`, where there is no room. A caller that is cancelled meanwhile does not know whether it is stored.

        Raises:
            OverloadedError: OVERLOADED, no room to run or to wait; STORE_UNAVAILABLE. AppendRefusedError: it breaks a
            rule of the store. Nothing is stored then.
        """

    def resume(self, folded: FoldedTask) -> None:
        """Let a task go on that has got the answers that it waited for. They are in its journal."""

    async def cancel(
        self,
        task_id: str,
        cause: CancelCause.ValueType,
        requested_by: str = "",
        *,
        only_if: Callable[[FoldedTask], bool] = always,
    ) -> None:
        """Cancel the task wherever it is, if `only_if` holds for it: running here, running in another process, or
        waiting. `requested_by` is the id of the key that asked for it, if one did. It does not wait for an attempt in
        another process to stop.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """

    def find(self, task_id: str) -> RunningTask | None:
        """Return the task if this process drives it now."""

    async def drain(self, grace_s: float) -> None:
        """Begin nothing more, give running tasks this long to end, and release the rest durably for other processes. A
        task that only waits for a limit is released at once.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """A task in line: its newest attempt when it came, and what it waits for."""

    attempt: int
    cause: WaitCause.ValueType
    is_quarantined: bool = False


class LineCounts(NamedTuple):
    """Tasks in line, and those of them that wait for an earlier task of their session. While the line `is_paused`,
    because the store was away, none is begun.
    """

    waiting: int
    behind_session: int
    is_paused: bool


class LineView(Protocol):
    """The tasks that wait in this process for their turn."""

    @property
    def task_ids(self) -> Set[str]:
        """Those in the queue, in order."""

    @property
    def counts(self) -> LineCounts:
        """How many are in the queue. May be asked from another thread."""

    def find(self, task_id: str) -> Place | None:
        """Return the place of a task; None where it has none, or is just being begun."""

    def resumed(self) -> list[Runnable]:
        """Return those that were begun before and wait to go on, also in quarantine."""

    def take_new(self) -> frozenset[str]:
        """Return those that came since the last call; of very many the newest."""

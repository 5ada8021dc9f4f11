"""The dispatchers that the contract is run on. A new adapter is one more entry in `ADAPTERS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent_service.engine.dispatch.base import Dispatcher, Submission, always
from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.dispatch.slots import Slots
from agent_service.engine.dispatch.take_up import Adopter, Attempt
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.v1.task_event_pb2 import TaskSubmitted
from agent_service.v1.task_pb2 import CancelCause
from tests.harness import Running


class ActivityDispatcher:
    """Accepts tasks and drives none itself, as where a workflow engine hands them to workers: each task is an activity,
    which takes it up by its journal alone.
    """

    def __init__(self, running: Running) -> None:
        service, store = running.service, running.store
        self._idle = service.idle
        self._slots = Slots(10)
        self._worker = Runner(store, service.feed, service.runner.ports, self._slots)
        self._adopter = Adopter(store, store, service.idle, service.runtimes, Quarantine())
        self._activities: set[asyncio.Task[None]] = set()
        self._is_drained = False

    async def submit(
        self, task_id: str, submitted: TaskSubmitted, runtime: AgentRuntime, *, may_wait: bool
    ) -> Submission:
        return Submission(await self._idle.submit(task_id, submitted, lambda: self._schedule(task_id, 0)))

    def resume(self, folded: FoldedTask) -> None:
        self._schedule(folded.task.id, folded.task.attempt)

    async def cancel(
        self,
        task_id: str,
        cause: CancelCause.ValueType,
        requested_by: str = "",
        *,
        only_if: Callable[[FoldedTask], bool] = always,
    ) -> None:
        await self._idle.cancel(task_id, cause, requested_by, only_if=only_if)
        if (running := self._worker.running.get(task_id)) is not None:
            await running.look()  # as the worker's follower of journals does

    def find(self, task_id: str) -> RunningTask | None:
        return None

    async def drain(self, grace_s: float) -> None:
        self._is_drained = True
        await self._worker.drained(timeout_s=grace_s)
        await self._worker.release()

    def _schedule(self, task_id: str, attempt: int) -> None:
        if not self._is_drained:
            activity = asyncio.create_task(self._activity(task_id, attempt))
            self._activities.add(activity)
            activity.add_done_callback(self._activities.discard)

    async def _activity(self, task_id: str, attempt: int) -> None:
        taken = await self._adopter.take_up(task_id, attempt)
        if isinstance(taken, Attempt):
            self._slots.take()
            await self._worker.adopt(taken, lambda _: None).ended()


def local(running: Running) -> Dispatcher:
    return running.service.dispatcher


ADAPTERS: dict[str, Callable[[Running], Dispatcher]] = {"local": local, "activities": ActivityDispatcher}

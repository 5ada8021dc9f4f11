"""Owns the tasks that run in this process: starts them, stops them, waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context

from agent_service.engine.attempt.driver import TaskDriver
from agent_service.engine.attempt.stop import Stop
from agent_service.engine.attempt.task_budget import lost_request
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.dispatch.slots import Slots
from agent_service.engine.dispatch.take_up import Attempt
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.runtime import AgentRuntime, AttemptPorts
from agent_service.engine.task.state import FoldedTask
from agent_service.engine.timing import TIMING, Timing
from agent_service.feed.base import FeedWriter
from agent_service.store.base import Journal
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_LOST, AttemptEnded, TaskEvent, TaskSubmitted
from agent_service.v1.task_pb2 import WAIT_CAUSE_LIMIT

# Tasks that do not end on release are cancelled this many times, and then left to end with the process.
CANCELS_MAX = 5


class Runner:
    """The running tasks of one process. Each has a slot, which is given back when the task no longer runs here. `ports`
    are those that their attempts use.
    """

    def __init__(
        self, journal: Journal, feed: FeedWriter, ports: AttemptPorts, slots: Slots, timing: Timing = TIMING
    ) -> None:
        self._journal = journal
        self._feed = feed
        self.ports = ports
        self._slots = slots
        self._timing = timing
        self._running: dict[str, RunningTask] = {}
        self._drives: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> Mapping[str, RunningTask]:
        """The tasks that run now, by id."""
        return self._running

    def start(self, task_id: str, submitted: TaskSubmitted, runtime: AgentRuntime) -> RunningTask:
        """Accept a new task and begin to drive it.

        Raises:
            OverloadedError: all slots are taken.
        """
        self._slots.take()
        journal, stop = self._attempt(task_id, FoldedTask())
        event = TaskEvent()
        event.submitted.CopyFrom(submitted)
        journal.write(event)
        return self._begin(RunningTask(journal, stop), runtime)

    def adopt(self, attempt: Attempt, on_end: Callable[[RunningTask], None]) -> RunningTask:
        """Start a queued task, or continue an unfinished one. The caller has taken the slot. `on_end` is called when
        the task no longer runs here, before its slot is given back.
        """
        folded = attempt.folded
        journal, stop = self._attempt(folded.task.id, folded)
        takes_over = folded.attempt_is_open
        if takes_over:
            if folded.open_request is not None:
                journal.write(lost_request(folded, folded.open_request))
            journal.write(TaskEvent(attempt_ended=AttemptEnded(cause=ATTEMPT_END_CAUSE_LOST)))
        return self._begin(RunningTask(journal, stop, takes_over=takes_over), attempt.runtime, on_end)

    async def drained(self, *, timeout_s: float | None) -> bool:
        """Wait until no task runs. Return False on timeout."""
        if self._drives:
            await asyncio.wait(self._drives, timeout=timeout_s)
        return not self._drives

    def release_waiting(self) -> None:
        """Release tasks that only wait for a limit. They stop after this returns."""
        for running in list(self._running.values()):
            if running.waiting is not None and running.waiting.cause == WAIT_CAUSE_LIMIT:
                running.stop.release()

    async def release(self) -> None:
        """Release all running tasks durably, without ending them."""
        for running in self._running.values():
            running.stop.release()
        rounds = 1
        while not await self.drained(timeout_s=self._timing.release) and rounds <= CANCELS_MAX:
            for drive in self._drives:
                drive.cancel()
            rounds += 1
        for task_id in self._running:
            self.ports.telemetry.log.error("task_stuck", task_id=task_id)

    def _attempt(self, task_id: str, folded: FoldedTask) -> tuple[JournalWriter, Stop]:
        stop = Stop(folded)
        return JournalWriter(task_id, folded, stop, self._journal, self._feed, self.ports.clock, self._timing), stop

    def _begin(
        self, running: RunningTask, runtime: AgentRuntime, on_end: Callable[[RunningTask], None] | None = None
    ) -> RunningTask:
        driver = TaskDriver(running.journal, running.stop, runtime, self.ports, running.close)
        self._running[running.task_id] = running
        # An empty context: the task outlives the call that submitted it.
        drive = asyncio.create_task(driver.run(), name=running.task_id, context=Context())
        self._drives.add(drive)

        def forget(_: asyncio.Task[None]) -> None:
            del self._running[running.task_id]
            self._drives.discard(drive)
            if on_end is not None:
                on_end(running)
            self._slots.give_back()

        drive.add_done_callback(forget)
        return running

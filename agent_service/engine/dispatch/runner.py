"""Owns the tasks that run in this process: starts them, stops them, waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context

from agent_service.engine.attempt.driver import TaskDriver
from agent_service.engine.attempt.stop import Stop
from agent_service.engine.attempt.task_budget import lost_request
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.latch import Latch
from agent_service.engine.runtime import AgentRuntime, Ports
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import OverloadedError
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_LOST, AttemptEnded, TaskEvent, TaskSubmitted
from agent_service.v1.task_pb2 import WAIT_CAUSE_LIMIT, Task, Waiting

# How long tasks that are let go of may take to write that down.
RELEASE_S = 2.0
# How often they are cancelled then, if they do not end, before they are left to end with the process.
CANCELS_MAX = 5


class RunningTask:
    """A task that this process drives, as those see it who wait for it. `takes_over` says that the attempt before was
    lost with its process, once this one is accepted.
    """

    def __init__(self, journal: JournalWriter, driver: TaskDriver, stop: Stop, *, takes_over: bool) -> None:
        self.takes_over = takes_over
        self.cancel = stop.cancel
        self.release = stop.release
        self._journal = journal
        self._driver = driver
        self._ended = Latch()

    @property
    def task_id(self) -> str:
        return self._journal.task_id

    @property
    def folded(self) -> FoldedTask:
        return self._journal.folded

    @property
    def is_settled(self) -> bool:
        """Whether the task has ended or waits for input, durably. One that does neither, though this process has done
        with it, goes on later or elsewhere.
        """
        return self._journal.is_closed or self._journal.folded.is_waiting

    @property
    def was_begun(self) -> bool:
        """Whether anything of this attempt is stored."""
        return self._journal.was_stored

    @property
    def is_synced(self) -> bool:
        """Whether all that is folded is durable, and so may be told."""
        return self._journal.is_synced

    @property
    def waiting(self) -> Waiting | None:
        """What the attempt waits for at this moment; None while it works."""
        return self._journal.waiting

    def knows(self, attempt: int, last_sequence: int) -> bool:
        """Whether the fold is durable and has all of a journal that stands there: others may have written to it."""
        task = self._journal.folded.task
        return self.is_synced and task.attempt == attempt and task.last_sequence >= last_sequence

    async def look(self, last_sequence: int) -> bool:
        """The stored journal is said to be this long: look for what other processes have written. False if the attempt
        is writing, and it is to be looked at again.

        Raises:
            OverloadedError: STORE_UNAVAILABLE. DecodeError: what they wrote cannot be read.
        """
        if self._journal.is_behind(last_sequence):
            await self.look_again()
            return True
        return self._journal.folded.task.last_sequence >= last_sequence

    async def look_again(self) -> None:
        """As `look`, whatever the stored journal is said to be."""
        await self._journal.look_once(self._journal.folded.task.last_sequence)

    async def accepted(self) -> None:
        """Return once the task is durably accepted.

        Raises:
            OverloadedError: STORE_UNAVAILABLE; it is not, and nothing of it is stored.
            AppendRefusedError: its request_id names another task.
        """
        await self._journal.begun.wait()

    async def ended(self) -> Task:
        """The task once its terminal event is synced, or once this process has done with it."""
        await self._ended.wait()
        return self._journal.folded.task

    async def drive(self) -> None:
        """Used by the runner alone."""
        try:
            await self._driver.run()
        finally:
            self._journal.close()
            self._ended.reach()


class Runner:
    """The running tasks of one process, at most `running_max`.

    `on_done` is told of every task that this process has done with. `reserved` are places for tasks that are about to
    be adopted.
    """

    def __init__(self, ports: Ports, *, running_max: int) -> None:
        self.ports = ports
        self.on_done: Callable[[RunningTask], None] = _ignore
        self.reserved = 0
        self._running_max = running_max
        self._running: dict[str, RunningTask] = {}
        self._drives: set[asyncio.Task[None]] = set()

    async def release(self) -> None:
        """Stop driving everything, durably, without ending it."""
        for running in self._running.values():
            running.release()
        rounds = 1
        while not await self.drained(timeout_s=RELEASE_S) and rounds <= CANCELS_MAX:
            for drive in self._drives:
                drive.cancel()
            rounds += 1
        for running in self._running.values():
            self.ports.log.error("task_stuck", task_id=running.task_id)

    @property
    def running(self) -> Mapping[str, RunningTask]:
        """The tasks that run now, by id."""
        return self._running

    @property
    def is_full(self) -> bool:
        """Whether this process runs as many as it may."""
        return len(self._running) + self.reserved >= self._running_max

    def overloaded(self) -> OverloadedError:
        """What callers are told then."""
        message = f"the server runs {self._running_max} tasks, as many as it may"
        return OverloadedError(reasons.ERROR_REASON_OVERLOADED, message)

    def start(self, task_id: str, submitted: TaskSubmitted, runtime: AgentRuntime) -> RunningTask:
        """Accept a new task and begin to drive it.

        Raises:
            OverloadedError: this process runs as many as it may.
        """
        if self.is_full:
            raise self.overloaded()
        journal, stop = self._attempt(task_id, FoldedTask())
        journal.write(TaskEvent(submitted=submitted))
        return self._drive(journal, stop, runtime)

    def adopt(self, folded: FoldedTask, runtime: AgentRuntime) -> RunningTask:
        """Begin with a task that waited for its turn, or go on with one that was left unfinished."""
        journal, stop = self._attempt(folded.task.id, folded)
        takes_over = folded.attempt_is_open
        if takes_over:
            if folded.open_request is not None:
                journal.write(lost_request(folded, folded.open_request))
            journal.write(TaskEvent(attempt_ended=AttemptEnded(cause=ATTEMPT_END_CAUSE_LOST)))
        return self._drive(journal, stop, runtime, takes_over=takes_over)

    def release_waiting(self) -> None:
        """Let go, durably, of what only waits for a limit. It begins to stop; it has not when this returns."""
        for running in list(self._running.values()):
            if running.waiting is not None and running.waiting.cause == WAIT_CAUSE_LIMIT:
                running.release()

    async def drained(self, *, timeout_s: float | None) -> bool:
        """Wait until nothing runs any more; whether that was so in time."""
        if self._drives:
            await asyncio.wait(self._drives, timeout=timeout_s)
        return not self._drives

    def _attempt(self, task_id: str, folded: FoldedTask) -> tuple[JournalWriter, Stop]:
        ports, stop = self.ports, Stop(folded)
        journal = JournalWriter(task_id, folded, stop, ports.journal, ports.feed, ports.clock)
        return journal, stop

    def _drive(
        self, journal: JournalWriter, stop: Stop, runtime: AgentRuntime, *, takes_over: bool = False
    ) -> RunningTask:
        driver = TaskDriver(journal, stop, runtime, self.ports)
        running = RunningTask(journal, driver, stop, takes_over=takes_over)
        self._running[running.task_id] = running
        # It outlives the call that brought it: nothing of that call's context goes along.
        drive = asyncio.create_task(running.drive(), name=running.task_id, context=Context())
        self._drives.add(drive)
        drive.add_done_callback(lambda done: self._forget(running, done))
        return running

    def _forget(self, running: RunningTask, drive: asyncio.Task[None]) -> None:
        del self._running[running.task_id]
        self._drives.discard(drive)
        self.on_done(running)


def _ignore(_: RunningTask) -> None:
    """Nobody listens yet."""

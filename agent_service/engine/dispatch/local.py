"""The dispatcher of one process: starts tasks at once or from a queue, and adopts tasks of dead processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from contextvars import Context

from google.protobuf.message import DecodeError

from agent_service.engine.dispatch.base import Submission, always
from agent_service.engine.dispatch.blocked_sessions import BlockedSessions
from agent_service.engine.dispatch.fair_queue import Priority, QueueFullError, Runnable
from agent_service.engine.dispatch.line import Line
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.dispatch.slots import Slots
from agent_service.engine.dispatch.take_up import Adopter, Attempt, NotNow
from agent_service.engine.idle_tasks import IdleTasks
from agent_service.engine.runtime import AgentRuntime, Telemetry
from agent_service.engine.task.state import FoldedTask, ForbiddenTransitionError
from agent_service.errors import AgentServiceError, OverloadedError
from agent_service.journal.refusals import AppendRefusedError, SessionBusyError
from agent_service.store.base import Orphan, TaskIndex
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import TaskSubmitted
from agent_service.v1.task_pb2 import CANCEL_CAUSE_DISCONNECT, CancelCause


class LocalDispatcher:
    """Claims one task after the other from the line while slots are free.

    A failed claim leaves no state; the next `adopt` finds the task again. If the store is unavailable, all tasks stay
    in the queue, and nothing is claimed until `retry`.
    """

    def __init__(
        self,
        index: TaskIndex,
        idle: IdleTasks,
        adopter: Adopter,
        runner: Runner,
        slots: Slots,
        line: Line,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        self._idle = idle
        self._log, self._metrics = telemetry.log, telemetry.metrics
        self._clock = clock
        self._adopter = adopter
        self._runner = runner
        self._slots = slots
        self._line = line
        self._queue = line.queue
        self._claims: dict[str, asyncio.Task[None]] = {}
        # Tasks that are being stored and will be queued then, by tenant.
        self._arriving: Counter[str] = Counter()
        self._unreadable: set[str] = set()
        # Claims that failed once, and have not succeeded since.
        self._failed: set[str] = set()
        self._blocked = BlockedSessions(index)
        self._is_stopped = False

    async def submit(
        self, task_id: str, submitted: TaskSubmitted, runtime: AgentRuntime, *, may_wait: bool
    ) -> Submission:
        """See `Dispatcher`, also for the methods down to `drain`."""
        if may_wait and (self._slots.is_full or self._queue.waiting(submitted.tenant)):
            return await self._store(task_id, submitted, Priority.QUEUED)
        if submitted.session_id:
            # While its session is busy the task waits, even without `may_wait`.
            return await self._store(task_id, submitted, Priority.QUEUED if may_wait else Priority.INTERACTIVE)
        running = self._runner.start(task_id, submitted, runtime)
        try:
            await running.accepted()
        except asyncio.CancelledError:
            raise
        except BaseException:
            # Nothing is stored, so no other process can take it over.
            running.stop.cancel(CANCEL_CAUSE_DISCONNECT)
            raise
        return Submission(running.folded, running)

    def resume(self, folded: FoldedTask) -> None:
        task, submitted = folded.task, folded.submitted
        self._push(Runnable(task.id, submitted.tenant, submitted.session_id, Priority.RESUMED, task.attempt))

    async def cancel(
        self,
        task_id: str,
        cause: CancelCause.ValueType,
        requested_by: str = "",
        *,
        only_if: Callable[[FoldedTask], bool] = always,
    ) -> None:
        running = self.find(task_id)
        if running is not None:
            if not only_if(running.folded):
                return
            running.stop.cancel(cause, requested_by)
            await running.ended()
        # The task may have been released, or may have begun to wait for input, before the request reached it: then no
        # process drives it now. If another process drives it, that one reads the request from the journal.
        folded = await self._idle.cancel(task_id, cause, requested_by, only_if=only_if)
        if folded.is_terminal:
            self.forget(task_id)
        running = self.find(task_id)
        if running is not None and only_if(running.folded):
            # This process started it meanwhile, before the request was in the journal.
            running.stop.cancel(cause, requested_by)

    def find(self, task_id: str) -> RunningTask | None:
        return self._runner.running.get(task_id)

    async def drain(self, grace_s: float) -> None:
        await self.stop()
        if grace_s > 0:
            self._runner.release_waiting()
            await self._runner.drained(timeout_s=grace_s)
        await self._runner.release()

    async def stop(self) -> None:
        """Claim nothing more, and cancel claims under way: without the store a claim would not end. The runner releases
        the tasks that were claimed.
        """
        self._is_stopped = True
        for claim in self._claims.values():
            claim.cancel()
        if self._claims:
            await asyncio.wait(self._claims.values())

    def adopt(self, orphan: Orphan) -> bool:
        """Queue a task that no process drives. Return False if it is already queued or running here."""
        priority = Priority.RESUMED if orphan.attempt else Priority.QUEUED
        return self._push(Runnable(orphan.task_id, orphan.tenant, orphan.session_id, priority, orphan.attempt))

    def forget(self, task_id: str) -> None:
        """Remove a task that has ended from the queue."""
        self._failed.discard(task_id)
        if self._queue.remove(task_id):
            self._done_with(task_id)

    def notice_growth(self, task_ids: Set[str]) -> None:
        """Record that the journals of these tasks have grown."""
        self._blocked.notice_growth(task_ids)

    async def retry(self) -> None:
        """Resume claims that failed because the store was unavailable or a session was busy.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        for tenant, session_id in await self._blocked.free():
            self._release_session(tenant, session_id)
        self._line.is_paused = False
        self._dispatch()

    async def _store(self, task_id: str, submitted: TaskSubmitted, priority: Priority) -> Submission:
        """Store a task and queue it. Its place is reserved while it is being stored."""

        def enter_line() -> None:
            self._push(Runnable(task_id, submitted.tenant, submitted.session_id, priority))

        with self._place(submitted.tenant) if priority is Priority.QUEUED else self._slots.held():
            folded = await self._idle.submit(task_id, submitted, enter_line)
        return Submission(folded)

    @contextmanager
    def _place(self, tenant: str) -> Iterator[None]:
        """Reserve a place in the queue for a task of the tenant.

        Raises:
            OverloadedError: OVERLOADED, the tenant has `queued_max` queued tasks.
        """
        if self._queue.waiting(tenant) + self._arriving[tenant] >= self._queue.queued_max:
            message = f"{self._queue.queued_max} tasks of the tenant are queued, as many as may be"
            raise OverloadedError(reasons.ERROR_REASON_OVERLOADED, message)
        self._arriving[tenant] += 1
        try:
            yield
        finally:
            self._arriving[tenant] -= 1
            if not self._arriving[tenant]:
                del self._arriving[tenant]

    def _push(self, runnable: Runnable) -> bool:
        """Queue a stored task. Return False if it is already queued, claimed or running, or if the queue is full: then
        `adopt` finds it again.
        """
        if self._is_known(runnable.task_id):
            return False
        if runnable.priority is Priority.RESUMED and runnable.session_id:
            # Later tasks of the session could not start before it.
            self._queue.release(runnable.tenant, runnable.session_id)
        try:
            is_new = self._queue.push(runnable)
        except QueueFullError:
            return False
        self._dispatch()
        if runnable.task_id in self._queue:
            self._line.note_new(runnable.task_id)
        return is_new

    def _is_known(self, task_id: str) -> bool:
        places = (self._runner.running, self._claims, self._unreadable, self._line.quarantine)
        return any(task_id in place for place in places)

    def _dispatch(self) -> None:
        """Claim tasks while there are free slots, and again when the next slot becomes free."""
        while len(self._queue) and not (self._is_stopped or self._line.is_paused):
            if self._slots.is_full:
                self._slots.when_free(self._dispatch)
                return
            runnable = self._queue.pop()
            if runnable is None:
                return
            self._begin_claim(runnable)

    def _begin_claim(self, runnable: Runnable) -> None:
        self._slots.take()
        # An empty context: the claim must not inherit that of the call that freed the slot or queued the task.
        claim = asyncio.create_task(self._claim(runnable), context=Context())
        self._claims[runnable.task_id] = claim
        claim.add_done_callback(lambda _: self._claims.pop(runnable.task_id, None))

    async def _claim(self, runnable: Runnable) -> None:
        """Start a claimed task. Its slot passes to the running task, or is given back."""
        running: RunningTask | None = None
        try:
            running = await self._begun(runnable)
            if running is None:
                self._release_session(runnable.tenant, runnable.session_id)
                self._done_with(runnable.task_id)
        finally:
            if running is None:
                self._slots.give_back()
        if running is not None:
            await self._admitted(runnable, running)

    async def _begun(self, runnable: Runnable) -> RunningTask | None:
        """Start the task if this process may drive it."""
        task_id = runnable.task_id
        try:
            taken = await self._adopter.take_up(task_id, runnable.attempt)
            if taken is NotNow.QUARANTINED:
                self._line.quarantine.add(runnable)
            if not isinstance(taken, Attempt):
                return None
            self._failed.discard(task_id)
            if runnable.attempt == 0:
                waited_s = self._clock() - taken.folded.task.create_time.ToMicroseconds() / 1e6
                self._metrics.queue_seconds.observe(waited_s)
            return self._runner.adopt(taken, self._on_end)
        except (DecodeError, ForbiddenTransitionError) as error:
            # One unreadable journal must not stop the dispatcher.
            self._unreadable.add(task_id)
            self._log.error("task_unreadable", error, task_id=task_id)
        except OverloadedError:
            self._pause(runnable)
        except Exception as error:  # noqa: BLE001 - a bug here must not stop the dispatcher
            self._log.error("claim_fault", error, task_id=task_id)
        return None

    async def _admitted(self, runnable: Runnable, running: RunningTask) -> None:
        """Wait until the store has admitted or refused the claim."""
        try:
            await running.accepted()
            if running.takes_over:
                self._metrics.attempts_left("LOST").inc()
        except SessionBusyError:
            self._queue.put_back(runnable)
            await self._blocked.add(runnable)
        except (AppendRefusedError, AgentServiceError):
            # Another process was faster, or the store refused the claim, which the driver has logged.
            self._release_session(runnable.tenant, runnable.session_id)

    def _pause(self, runnable: Runnable) -> None:
        """Pause after a claim that failed because the store was unavailable, until `retry`. If the same task then fails
        again, the task itself is at fault; it is dropped, and `adopt` finds it again.
        """
        if runnable.task_id in self._failed:
            self._failed.discard(runnable.task_id)
            return
        self._failed.add(runnable.task_id)
        self._line.is_paused = True
        self._queue.put_back(runnable)

    def _release_session(self, tenant: str, session_id: str) -> None:
        if session_id:
            self._blocked.discard(tenant, session_id)
            self._queue.release(tenant, session_id)

    def _on_end(self, running: RunningTask) -> None:
        """Release what a claimed task held, when it no longer runs here."""
        if running.was_stored:
            submitted = running.folded.submitted
            self._release_session(submitted.tenant, submitted.session_id)
        self._done_with(running.task_id)

    def _done_with(self, task_id: str) -> None:
        following = self._line.quarantine.done(task_id)
        if following is not None:
            self._queue.push(following)
        self._dispatch()

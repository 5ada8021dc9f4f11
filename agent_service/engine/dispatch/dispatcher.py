"""Begins what waits for its turn: queued tasks, answered ones, and those that another process left unfinished."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from contextvars import Context

from google.protobuf.message import DecodeError

from agent_service.engine.dispatch.fair_queue import FairQueue, Priority, QueueFullError, Runnable
from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.engine.dispatch.runner import Runner, RunningTask
from agent_service.engine.dispatch.session_history import history_of
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.outcomes import append_idle, rejected
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask, ForbiddenTransitionError
from agent_service.errors import AgentServiceError, OverloadedError
from agent_service.journal.event_rules import TERMINAL
from agent_service.journal.refusals import AppendRefusedError, SessionBusyError
from agent_service.store.base import Orphan, TaskQuery
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import (
    WAIT_CAUSE_SESSION,
    WAIT_CAUSE_SLOT,
    WAIT_CAUSE_STORE,
    WAIT_CAUSE_UNSPECIFIED,
    Failure,
    TaskState,
    WaitCause,
)

# What a task runs on now, or why it cannot be begun any more.
RuntimeOf = Callable[[FoldedTask], AgentRuntime | Failure]

# Newcomers to the line that are remembered between two reports of what waits.
PUSHED_MAX = 1000
# Blockers that are looked at in a round though they have not grown: one that was erased does not say so.
RECHECKED_MAX = 20
UNFINISHED = frozenset(TaskState.values()) - TERMINAL


class Dispatcher:
    """Claims one task after the other while the runner has room.

    A failed claim leaves no state, and `adopt` finds the task again; save where the store was away: then all stay in
    line, and nothing is claimed until `retry`.
    """

    def __init__(self, runner: Runner, runtime_of: RuntimeOf, *, queued_max: int) -> None:
        self._runner = runner
        self._ports = runner.ports
        self._runtime_of = runtime_of
        self._queued_max = queued_max
        self._queue = FairQueue(queued_max=queued_max)
        self._claims: dict[str, asyncio.Task[None]] = {}
        self._arriving: Counter[str] = Counter()
        self._unreadable: set[str] = set()
        # Claims that failed once, and have not succeeded since.
        self._failed: set[str] = set()
        self._suspects = Quarantine()
        # Sessions that are busy elsewhere, or with a task that waits; each with the task that must end first, or "".
        self._blocked_by: dict[tuple[str, str], str] = {}
        # Those tasks: all that were looked at, in the order of the last look, and those that have grown since.
        self._blockers_known: dict[str, None] = {}
        self._blockers_grown: set[str] = set()
        # What came into line since the last `take_pushed`.
        self._pushed: deque[str] = deque(maxlen=PUSHED_MAX)
        self._is_paused = False
        self._is_stopped = False
        runner.on_done = self._on_done

    @contextmanager
    def room(self) -> Iterator[None]:
        """While a task is stored that is to begin at once: room to run is kept for it.

        Raises:
            OverloadedError: OVERLOADED, as many run as may.
        """
        if self._runner.is_full:
            raise self._runner.overloaded()
        self._runner.reserved += 1
        try:
            yield
        finally:
            self._runner.reserved -= 1
            self._dispatch()

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """While a task of the tenant is stored that is to queue: its place in line is kept for it.

        Raises:
            OverloadedError: OVERLOADED, as many are queued as may be.
        """
        if self._queue.waiting(tenant) + self._arriving[tenant] >= self._queued_max:
            message = f"{self._queued_max} tasks of the tenant are queued, as many as may be"
            raise OverloadedError(reasons.ERROR_REASON_OVERLOADED, message)
        self._arriving[tenant] += 1
        try:
            yield
        finally:
            self._arriving[tenant] -= 1
            if not self._arriving[tenant]:
                del self._arriving[tenant]

    def push(self, runnable: Runnable) -> bool:
        """Give a stored task its place in line; False if it has one, or more than that, or found none: it is still
        stored, and found by `adopt`.
        """
        if self._is_known(runnable.task_id):
            return False
        if runnable.priority is Priority.RESUMED and runnable.session_id:
            # What stood behind it in the session could not be begun before.
            self._queue.release(runnable.tenant, runnable.session_id)
        try:
            is_new = self._queue.push(runnable)
        except QueueFullError:
            return False
        self._dispatch()
        if runnable.task_id in self._queue:
            self._pushed.append(runnable.task_id)
        return is_new

    def take_pushed(self) -> frozenset[str]:
        """The tasks that came into line since this was asked last; of very many the newest."""
        pushed = frozenset(self._pushed)
        self._pushed.clear()
        return pushed

    def attempt_of(self, task_id: str) -> int:
        """The newest attempt of a task, when it came into line."""
        kept = self._queue.get(task_id) or self._suspects.get(task_id)
        return kept.attempt if kept is not None else -1

    def is_suspect(self, task_id: str) -> bool:
        """Whether a task waits for another one that may end the process as it may itself."""
        return task_id in self._suspects

    def wait_of(self, task_id: str) -> WaitCause.ValueType:
        """What a task in line waits for; UNSPECIFIED where it is in no line here, or just being begun."""
        if self.is_suspect(task_id):
            return WAIT_CAUSE_SLOT
        if task_id not in self._queue:
            return WAIT_CAUSE_UNSPECIFIED
        if self._is_paused:
            return WAIT_CAUSE_STORE
        return WAIT_CAUSE_SESSION if self._queue.is_behind_session(task_id) else WAIT_CAUSE_SLOT

    def adopt(self, orphan: Orphan) -> bool:
        """Take up a task that nobody drives; False if that is known already."""
        priority = Priority.RESUMED if orphan.attempt else Priority.QUEUED
        return self.push(Runnable(orphan.task_id, orphan.tenant, orphan.session_id, priority, orphan.attempt))

    def remove(self, task_id: str) -> None:
        """It need not be begun any more."""
        self._failed.discard(task_id)
        self._queue.remove(task_id)

    def waiting(self, tenant: str) -> int:
        """How many tasks of a tenant wait for their turn."""
        return self._queue.waiting(tenant)

    @property
    def queued(self) -> int:
        """How many tasks wait for their turn."""
        return len(self._queue)

    @property
    def behind_session(self) -> int:
        """How many of them wait for an earlier task of their session."""
        return self._queue.behind_session

    @property
    def is_paused(self) -> bool:
        """Whether nothing is begun because the store was away."""
        return self._is_paused

    @property
    def queued_ids(self) -> Set[str]:
        """The tasks that wait for their turn."""
        return self._queue.task_ids

    @property
    def has_line(self) -> bool:
        """Whether anything waits for its turn."""
        return len(self._queue) > 0

    def resumed(self) -> list[Runnable]:
        """What was begun before and waits to go on."""
        return [*self._queue.resumed(), *self._suspects.aside()]

    def notice_growth(self, task_ids: Set[str]) -> None:
        """The journals of these tasks have grown."""
        self._blockers_grown.update(task_id for task_id in self._blocked_by.values() if task_id in task_ids)

    async def retry(self) -> None:
        """Claim again what could not be claimed: the store was away, or the session was busy and is no more.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        blockers = set(self._blocked_by.values())
        self._blockers_known = {task_id: None for task_id in self._blockers_known if task_id in blockers}
        self._blockers_grown &= blockers
        due = blockers - self._blockers_known.keys() | self._blockers_grown
        ended = set()
        for task_id in [*due, *(known for known in list(self._blockers_known)[:RECHECKED_MAX] if known not in due)]:
            row = await self._ports.index.find(task_id)
            if row is None or row.state in TERMINAL:
                ended.add(task_id)
            self._blockers_grown.discard(task_id)
            self._blockers_known.pop(task_id, None)
            self._blockers_known[task_id] = None
        for (tenant, session_id), blocker in list(self._blocked_by.items()):
            if blocker in ended:
                self._release(tenant, session_id)
        self._is_paused = False
        self._dispatch()

    async def stop(self) -> None:
        """Begin nothing more. What was claimed is the runner's to let go of: with the store away, that alone ends."""
        self._is_stopped = True
        for claim in self._claims.values():
            claim.cancel()
        if self._claims:
            await asyncio.wait(self._claims.values())

    def _is_known(self, task_id: str) -> bool:
        places = (self._runner.running, self._claims, self._unreadable, self._suspects)
        return any(task_id in place for place in places)

    def _dispatch(self) -> None:
        while not (self._is_stopped or self._is_paused or self._runner.is_full):
            runnable = self._queue.pop()
            if runnable is None:
                return
            self._begin_claim(runnable)

    def _begin_claim(self, runnable: Runnable) -> None:
        self._runner.reserved += 1
        # Whatever made room for it, or put it in line, has nothing to do with it.
        claim = asyncio.create_task(self._claim(runnable), context=Context())
        self._claims[runnable.task_id] = claim
        claim.add_done_callback(lambda _: self._claims.pop(runnable.task_id, None))

    async def _claim(self, runnable: Runnable) -> None:
        running: RunningTask | None = None
        try:
            running = await self._adopted(runnable)
        except (DecodeError, ForbiddenTransitionError) as error:
            # One unreadable journal must not stop the dispatcher.
            self._unreadable.add(runnable.task_id)
            self._ports.log.error("task_unreadable", error, task_id=runnable.task_id)
        except OverloadedError:
            self._keep(runnable)
        except Exception as error:  # noqa: BLE001 - a bug here must not stop the dispatcher
            self._ports.log.error("claim_fault", error, task_id=runnable.task_id)
        finally:
            self._runner.reserved -= 1
        if running is None:
            self._release(runnable.tenant, runnable.session_id)
            self._done_with(runnable.task_id)
            return
        try:
            await running.accepted()
            if running.takes_over:
                self._ports.metrics.attempts_left("LOST").inc()
        except SessionBusyError:
            self._queue.put_back(runnable)
            self._blocked_by[runnable.tenant, runnable.session_id] = await self._first_of_session(runnable)
        except AppendRefusedError:
            # Somebody else was faster.
            self._release(runnable.tenant, runnable.session_id)
        except AgentServiceError:
            # The store does not take this claim, which its driver has logged.
            self._release(runnable.tenant, runnable.session_id)

    def _keep(self, runnable: Runnable) -> None:
        """The store could not be used for a claim: claim nothing until `retry`, which is called once it can be. A task
        that fails then again is at fault itself, and left to `adopt`.
        """
        if runnable.task_id in self._failed:
            self._failed.discard(runnable.task_id)
            return
        self._failed.add(runnable.task_id)
        self._is_paused = True
        self._queue.put_back(runnable)

    async def _first_of_session(self, runnable: Runnable) -> str:
        """The oldest unfinished task of a session, which the others stand behind; "" where it is not known."""
        query = TaskQuery(runnable.tenant, session_id=runnable.session_id, states=UNFINISHED, limit=1000)
        try:
            rows = (await self._ports.index.list_tasks(query)).rows
        except OverloadedError:
            return ""
        return rows[-1].task_id if rows and rows[-1].task_id != runnable.task_id else ""

    async def _adopted(self, runnable: Runnable) -> RunningTask | None:
        """Claim it, unless there is nothing to be driven any more."""
        folded = await read_folded(self._ports.journal, runnable.task_id)
        if folded.is_terminal or folded.is_waiting or not folded.task.state:
            return None
        if folded.task.attempt != runnable.attempt:
            # Another process has begun it meanwhile, and drives it.
            return None
        runtime = self._runtime_of(folded)
        if isinstance(runtime, Failure):
            await append_idle(self._ports, folded, rejected(runtime))
            return None
        if not self._suspects.may_begin(runnable, folded):
            return None
        if folded.submitted.session_id:
            folded.begin_with(await history_of(self._ports.index, self._ports.journal, folded, runtime))
        self._failed.discard(runnable.task_id)
        running = self._runner.adopt(folded, runtime)
        if runnable.attempt == 0:
            waited_s = self._ports.clock() - folded.task.create_time.ToMicroseconds() / 1e6
            self._ports.metrics.queue_seconds.observe(waited_s)
        return running

    def _release(self, tenant: str, session_id: str) -> None:
        if session_id:
            self._blocked_by.pop((tenant, session_id), None)
            self._queue.release(tenant, session_id)

    def _on_done(self, running: RunningTask) -> None:
        if running.was_begun:
            submitted = running.folded.submitted
            self._release(submitted.tenant, submitted.session_id)
        self._done_with(running.task_id)

    def _done_with(self, task_id: str) -> None:
        following = self._suspects.done(task_id)
        if following is not None:
            self._queue.push(following)
        self._dispatch()

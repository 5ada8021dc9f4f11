"""Begins what waits for its turn: queued tasks, answered ones, and those that another process left unfinished."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context

from google.protobuf.message import DecodeError

from agent_service.engine.ends import append_idle, rejected
from agent_service.engine.fair_queue import FairQueue, Priority, QueueFullError, Runnable
from agent_service.engine.reading import read_folded
from agent_service.engine.runner import Runner, RunningTask
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.session_history import history_of
from agent_service.engine.suspects import Suspects
from agent_service.engine.task_state import FoldedTask, ForbiddenTransitionError
from agent_service.errors import OverloadedError
from agent_service.store.base import AppendRefusedError, Orphan, SessionBusyError
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Failure

# What a task runs on now, or why it cannot be begun any more.
RuntimeOf = Callable[[FoldedTask], AgentRuntime | Failure]


class Dispatcher:
    """Claims one task after the other while the runner has room. `on_claimed` is told of each.

    A claim that comes to nothing is forgotten: what is still nobody's is found again by `adopt`.
    """

    def __init__(self, runner: Runner, runtime_of: RuntimeOf, *, queued_max: int) -> None:
        self.on_claimed: Callable[[RunningTask], None] = _ignore
        self._runner = runner
        self._ports = runner.ports
        self._runtime_of = runtime_of
        self._queued_max = queued_max
        self._queue = FairQueue(queued_max=queued_max)
        self._claims: dict[str, asyncio.Task[None]] = {}
        self._arriving: Counter[str] = Counter()
        self._unreadable: set[str] = set()
        self._suspects = Suspects()
        self._sessions_held: set[tuple[str, str]] = set()
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
        return is_new

    def adopt(self, orphan: Orphan) -> bool:
        """Take up a task that nobody drives; False if that is known already."""
        priority = Priority.RESUMED if orphan.attempt else Priority.QUEUED
        return self.push(Runnable(orphan.task_id, orphan.tenant, orphan.session_id, priority, orphan.attempt))

    def remove(self, task_id: str) -> None:
        """It need not be begun any more."""
        self._queue.remove(task_id)

    def waiting(self, tenant: str) -> int:
        """How many tasks of a tenant wait for their turn."""
        return self._queue.waiting(tenant)

    @property
    def queued(self) -> int:
        """How many tasks wait for their turn."""
        return len(self._queue)

    @property
    def has_line(self) -> bool:
        """Whether anything waits for its turn."""
        return len(self._queue) > 0

    def resumed(self) -> list[Runnable]:
        """What was begun before and waits to go on."""
        return [*self._queue.resumed(), *self._suspects.aside()]

    def retry_sessions(self) -> None:
        """Ask the store again about tasks whose session was busy in another process, or with a task that waits."""
        held, self._sessions_held = self._sessions_held, set()
        for tenant, session_id in held:
            self._queue.release(tenant, session_id)
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
        while not self._is_stopped and not self._runner.is_full:
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
            # One bad page must not keep all others from going on.
            self._unreadable.add(runnable.task_id)
            self._ports.log.error("task_unreadable", error, task_id=runnable.task_id)
        except OverloadedError:
            """The store is away; found again when it is back."""
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
        except SessionBusyError:
            self._queue.put_back(runnable)
            self._sessions_held.add((runnable.tenant, runnable.session_id))
        except AppendRefusedError:
            # Somebody else was faster.
            self._release(runnable.tenant, runnable.session_id)

    async def _adopted(self, runnable: Runnable) -> RunningTask | None:
        """Claim it, unless there is nothing to be driven any more."""
        folded = await read_folded(self._ports.store, runnable.task_id)
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
            folded.begin_with(await history_of(self._ports.store, folded, runtime))
        running = self._runner.adopt(folded, runtime)
        if runnable.attempt == 0:
            self._ports.metrics.queue_seconds.observe(time.time() - folded.task.create_time.ToMicroseconds() / 1e6)
        self.on_claimed(running)
        return running

    def _release(self, tenant: str, session_id: str) -> None:
        if session_id:
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


def _ignore(_: RunningTask) -> None:
    """Nobody listens yet."""

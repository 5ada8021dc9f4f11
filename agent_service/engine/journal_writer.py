"""Writes journals: the only place that stamps events, folds them, appends them, and publishes stored events.

`JournalWriter` writes the events of one attempt that this process drives; `IdleWriter` writes to tasks that it does not
drive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from agent_service.engine.latch import Latch
from agent_service.engine.task.state import FoldedTask
from agent_service.engine.timing import TIMING, Timing
from agent_service.errors import OverloadedError
from agent_service.feed.base import FeedWriter
from agent_service.journal.event_rules import EVENT_BYTES_MAX, is_terminal
from agent_service.journal.refusals import AppendRefusedError, StaleAppendError
from agent_service.journal.stamp import number, stamp
from agent_service.store.base import Appended, Journal
from agent_service.text.times import set_nanos, to_nanos
from agent_service.v1.task_event_pb2 import CancelRequested, TaskEvent, TaskSubmitted
from agent_service.v1.task_pb2 import WAIT_CAUSE_STORE, WaitCause, Waiting

STORE_AWAY = "the store cannot be written"
# Room for the fields that are added to an event: its task, time, attempt and the usage.
EVENT_BYTES_ADDED = 4096


class Interruptible(Protocol):
    """The attempt that writes a journal. The journal interrupts it when another process has written to the task."""

    def cancel_as_requested(self, requested: CancelRequested) -> None:
        """Cancel the task. The request is already in the journal."""

    def release(self) -> None:
        """Stop driving the task. The journal stores no further events of this attempt."""


class JournalWriter:
    """Folds each event immediately, stores it shortly after, and publishes it once it is synced.

    One append is under way at a time, so that a failed append leaves no gap. Appends to an unavailable store are
    retried until the attempt ends, except the first append of a new task: nothing was acknowledged yet, so the task is
    refused instead. `begun` is reached once the first append was stored or refused.

    Other processes append to a driven task to request its cancellation, to take it over or to end it. The attempt is
    interrupted then. After a takeover or an end, and after an append that the store refused, nothing more is stored.
    """

    def __init__(
        self,
        task_id: str,
        folded: FoldedTask,
        interruptible: Interruptible,
        journal: Journal,
        feed: FeedWriter,
        clock: Callable[[], float],
        timing: Timing = TIMING,
    ) -> None:
        self.timing = timing
        self.task_id = task_id
        self.folded = folded
        self.attempt = folded.task.attempt
        self._loop = asyncio.get_running_loop()
        self.begun = Latch()
        self._interruptible = interruptible
        self.waiting: Waiting | None = None
        self._journal = journal
        self.channel = feed.channel(task_id)
        self._clock = clock
        self._owned_attempt = self.attempt
        # A takeover needs the whole journal: the previous owner may have written since it was read.
        self._begins_after: int | None = folded.task.last_sequence or None
        self._pending: list[TaskEvent] = []
        self._appending: list[TaskEvent] = []
        # Its own asyncio task: cancelled callers must not leave it unknown what was stored.
        self._storing: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._has_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._written = 0
        self._stored = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._broken: BaseException | None = None
        self._looking: asyncio.Task[None] | None = None

    def write(self, event: TaskEvent) -> None:
        """Write one event: folded now, stored within `Timing.lazy_flush`, or at once on `sync`.

        The writer fills in the task, the time and the attempt.

        Raises:
            ValueError: the event is larger than any store accepts.
        """
        if event.ByteSize() > EVENT_BYTES_MAX - EVENT_BYTES_ADDED:
            raise ValueError(f"{event.WhichOneof('event')} of {event.ByteSize()} bytes is not stored")
        stamp(event, self.task_id, self.attempt, self._clock())
        self.folded.apply(event)
        self._pending.append(event)
        self._written += 1
        # Before that, the driver writes more events at once and then syncs: a timer would gain nothing.
        if self.begun.is_reached:
            self.flush_soon()

    async def write_unless_grown(self, event: TaskEvent) -> bool:
        """Write one event if no other process has written since. Otherwise read what was written and return False.

        A queued append cannot be withdrawn: a cancelled call waits for its outcome, and folds the event if it was
        stored.

        Raises:
            AppendRefusedError: the task no longer belongs to this attempt.
        """
        await self.sync()
        if self._looking is not None:
            await asyncio.shield(self._looking)
        stamp(event, self.task_id, self.attempt, self._clock())
        while True:
            last = self.folded.task.last_sequence
            appending = self._loop.create_task(self._journal.append([event], attempt=self.attempt, after=last))
            try:
                appended = await asyncio.shield(appending)
            except StaleAppendError:
                await self.look()
                return False
            except OverloadedError:
                self.begin_wait(WAIT_CAUSE_STORE, STORE_AWAY)
                await asyncio.sleep(self.timing.store_retry)
            except asyncio.CancelledError:
                await asyncio.wait((appending,))
                if appending.exception() is None:
                    self._show_stored(event, appending.result())
                raise
            else:
                self._show_stored(event, appended)
                self.end_wait(WAIT_CAUSE_STORE)
                return True

    def _show_stored(self, event: TaskEvent, appended: Appended) -> None:
        number([event], appended.last_sequence)
        self.folded.apply(event)
        self.channel.publish([event])

    async def look(self, after: int | None = None) -> None:
        """Read what other processes have appended after the last event that this writer knows, or after `after`.
        Retries while the store is unavailable, because no other reader would find those events.
        """
        if after is None:
            after = self.folded.task.last_sequence
        while True:
            try:
                await self.look_once(after)
                return
            except OverloadedError:
                await asyncio.sleep(self.timing.store_retry)

    async def look_once(self, after: int) -> None:
        """Read what other processes have appended after `after`.

        Raises:
            OverloadedError: STORE_UNAVAILABLE. DecodeError: an event cannot be read.
        """
        events = await self._journal.read(self.task_id, after_sequence=after)
        for event in events:
            if event.attempt > self.attempt or (is_terminal(event) and not self.folded.is_terminal):
                self._break(AppendRefusedError(f"task {self.task_id} was taken over or ended by another process"))
                return
            if event.HasField("cancel_requested"):
                self._interruptible.cancel_as_requested(event.cancel_requested)
        if events and not self._appending:
            self.folded.task.last_sequence = max(self.folded.task.last_sequence, events[-1].sequence)

    async def _look_after(self, earlier: asyncio.Task[None] | None, after: int) -> None:
        if earlier is not None:
            await earlier
        await self.look(after)

    def close(self) -> None:
        """End the attempt. Events that were written are still stored; those of other processes are ignored."""
        self.channel.close()
        self._has_ended = True
        if not self._pending:
            self._wake_storing()
        if self._looking is not None:
            self._looking.cancel()

    def begin_wait(
        self, cause: WaitCause.ValueType, message: str, *, rule: str = "", retry_after_s: float | None = None
    ) -> None:
        """Record the cause that the attempt waits for. A wait for the same rule keeps its start time. A wait for the
        store takes precedence over every other cause.
        """
        waiting, now_ns = self.waiting, to_nanos(self._clock())
        if waiting is not None and waiting.cause == WAIT_CAUSE_STORE:
            return
        new = Waiting(cause=cause, rule=rule, message=message)
        if waiting is not None and waiting.rule == rule:
            new.since.CopyFrom(waiting.since)
        else:
            set_nanos(new.since, now_ns)
        if retry_after_s is not None:
            set_nanos(new.retry_at, now_ns + to_nanos(retry_after_s))
        self.waiting = new

    def end_wait(self, cause: WaitCause.ValueType) -> None:
        """Record that the attempt no longer waits for this cause, if it did."""
        if self.waiting is not None and self.waiting.cause == cause:
            self.waiting = None

    @property
    def is_synced(self) -> bool:
        """True if everything written so far is durable. Until then the fold is ahead of the store."""
        return self._stored == self._written

    @property
    def is_closed(self) -> bool:
        """True if the task's terminal event is synced."""
        return self.folded.is_terminal and self.is_synced

    @property
    def may_be_refused(self) -> bool:
        """True while the store has not admitted this attempt: the request_id may name another task, or another process
        may have claimed the task first. No tool may run until then, not even one without side effects.
        """
        is_contested = self._begins_after is not None or bool(self.folded.submitted.request_id)
        return is_contested and not self.begun.is_reached

    @property
    def was_stored(self) -> bool:
        """True if at least one event of this attempt is stored."""
        return self._stored > 0

    def flush_soon(self) -> None:
        """Start storing within `Timing.lazy_flush` what is written by then. Does not wait for it."""
        if self._timer is None and not self._appending:
            self._timer = self._loop.call_later(self.timing.lazy_flush, self.flush)

    def flush(self) -> None:
        """Start storing what was written. Does not wait for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and self._broken is None:
            if self._storing is None:
                self._storing = self._loop.create_task(self._store())
            else:
                self._wake_storing()

    def _wake_storing(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    async def sync(self) -> None:
        """Return once everything written so far is durable.

        Raises:
            AppendRefusedError: the task no longer belongs to this attempt.
            OverloadedError: the first append of a new task failed; nothing is stored.
        """
        self.flush()
        if self._broken is not None:
            raise self._broken
        if self._stored < self._written:
            waiter = self._loop.create_future()
            self._waiters.append((self._written, waiter))
            await waiter

    async def _store(self) -> None:
        """Append written events, one append after the other, until the attempt ends or loses its journal."""
        while self._pending and self._broken is None:
            self._appending = events = self._pending
            self._pending = []
            try:
                appended = await self._journal.append(events, attempt=self._owned_attempt, after=self._begins_after)
            except Exception as error:  # noqa: BLE001 - callers of `sync` must not wait forever, whatever the error is
                self._appending = []
                self._not_appended(events, error)
                waits = self._broken is None
            else:
                self._appending = []
                self._appended(events, appended)
                # No event follows the terminal one.
                waits = not (self._pending or self._has_ended or self.folded.is_terminal)
            if waits:
                self._idle = self._loop.create_future()
                await self._idle

    def _appended(self, events: list[TaskEvent], appended: Appended) -> None:
        number(events, appended.last_sequence)
        self._stored += len(events)
        self._owned_attempt, self._begins_after = events[-1].attempt, None
        known = self.folded.task.last_sequence
        self.folded.task.last_sequence = appended.last_sequence
        if events[0].sequence > known + 1:
            self._looking = self._loop.create_task(self._look_after(self._looking, known))
        self.begun.reach()
        if self.waiting is not None:
            self.end_wait(WAIT_CAUSE_STORE)
        self.channel.publish(events)
        self._wake_waiters()

    def _not_appended(self, events: list[TaskEvent], error: Exception) -> None:
        if isinstance(error, OverloadedError) and self.folded.task.last_sequence:
            self._pending[:0] = events
            self.begin_wait(WAIT_CAUSE_STORE, STORE_AWAY)
            self._timer = self._loop.call_later(self.timing.store_retry, self.flush)
        else:
            self._break(error)

    def is_behind(self, last_sequence: int) -> bool:
        """Return whether another process has appended: the journal is longer than this writer knows, and no append of
        its own is under way.
        """
        return last_sequence > self.folded.task.last_sequence and not self._appending

    def _break(self, error: BaseException) -> None:
        """Stop storing: another process owns the task, or the store refused an event."""
        if self._broken is not None:
            return
        self._broken = error
        self.begun.reach(error)
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiters.clear()
        self._wake_storing()
        self._interruptible.release()

    def _wake_waiters(self) -> None:
        waiting = []
        for target, waiter in self._waiters:
            if target > self._stored:
                waiting.append((target, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiters = waiting


class IdleWriter:
    """Writes to tasks that this process does not drive."""

    def __init__(self, journal: Journal, feed: FeedWriter, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._feed = feed
        self._clock = clock

    async def submit(self, task_id: str, submitted: TaskSubmitted, on_stored: Callable[[], None]) -> FoldedTask:
        """Begin the journal of a queued task. `on_stored` is called once it is stored, even if the caller is cancelled
        meanwhile: a cancelled call waits for the outcome of the append.

        Raises:
            As `Journal.append`; nothing is stored then.
        """
        event = TaskEvent(submitted=submitted)
        stamp(event, task_id, 0, self._clock())
        appending = asyncio.create_task(self._journal.append([event], attempt=0))
        try:
            await asyncio.shield(appending)
        except asyncio.CancelledError:
            await asyncio.wait((appending,))
            if appending.exception() is None:
                self._show_stored([event], appending.result())
                on_stored()
            raise
        self._show_stored([event], appending.result())
        on_stored()
        return FoldedTask.fold([event])

    async def append(self, folded: FoldedTask, events: Sequence[TaskEvent]) -> bool:
        """Append to a task and fold the events. Return False if the task has changed since it was folded.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        task = folded.task
        for event in events:
            stamp(event, task.id, task.attempt, self._clock())
        try:
            appended = await self._journal.append(events, attempt=None, after=task.last_sequence)
        except AppendRefusedError:
            return False
        self._show_stored(events, appended)
        for event in events:
            folded.apply(event)
        return True

    def _show_stored(self, events: Sequence[TaskEvent], appended: Appended) -> None:
        number(events, appended.last_sequence)
        self._feed.publish(events)

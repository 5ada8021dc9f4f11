"""Follows tasks: first the journal, then live events; each journaled event once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Protocol

from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.runtime import Drain
from agent_service.engine.sweeps.waits import WaitOf
from agent_service.engine.task.state import INPUT_REQUIRED, FoldedTask
from agent_service.errors import OverloadedError
from agent_service.feed.base import FeedClosedError, FeedReader, Lagged, Subscription
from agent_service.feed.frame import PIECE_LENGTH_MAX, Frame, pieces_of
from agent_service.journal.event_rules import TERMINAL
from agent_service.service.reading import no_such_task
from agent_service.service.watching.position import WatchPosition
from agent_service.store.base import Journal, TaskIndex
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import Heartbeat, TaskEvent

HEARTBEAT_S = 15.0
# Events may be large; a slow watcher holds at most this many in memory.
PAGE = 100


class Outlet(Protocol):
    """The wire to the caller of a stream, for frames that need not wait."""

    @property
    def is_ready(self) -> bool:
        """True if the wire has taken all earlier frames."""

    def send(self, frame: Frame) -> None:
        """Send a frame without waiting, if the outlet is ready. Never raises: if the call has ended, its handler is
        canceled.
        """


class TaskWatcher:
    """Shows the events of tasks, whether they run here or elsewhere, are queued, or have ended."""

    def __init__(self, journal: Journal, index: TaskIndex, feed: FeedReader, drain: Drain, wait_of: WaitOf) -> None:
        self._wait_of = wait_of
        self._journal = journal
        self._index = index
        self._feed = feed
        self._drain = drain

    @asynccontextmanager
    async def watch(
        self, task_id: str, after: int, outlet: Outlet | None = None
    ) -> AsyncIterator[AsyncGenerator[Frame]]:
        """Yield the frames of every journaled event above `after`, then of live ones, until the task has ended or waits
        for input. Live text that `outlet` can send at once goes there instead; frames that were yielded before it must
        be sent before the next one is asked for.

        Raises, also from the frames:
            NotFoundError: TASK_NOT_FOUND, also after the task was erased. OverloadedError: DRAINING, this process
            stops; STORE_UNAVAILABLE.
        """
        with self._feed.subscribe(task_id) as subscription:
            row = await self._index.find(task_id)
            if row is None:
                raise no_such_task(task_id)
            is_settled = row.state == INPUT_REQUIRED or row.state in TERMINAL
            position = WatchPosition(task_id, after, row.last, is_settled=is_settled)
            async with aclosing(self._follow(subscription, position, outlet, row.last.sequence)) as frames:
                yield frames

    def watch_new(
        self, task_id: str, subscription: Subscription, outlet: Outlet | None = None
    ) -> AbstractAsyncContextManager[AsyncGenerator[Frame]]:
        """As `watch`, for a task that was accepted after the subscription began and delivers all its events."""
        return aclosing(self._follow(subscription, WatchPosition(task_id), outlet))

    async def _follow(
        self, subscription: Subscription, position: WatchPosition, outlet: Outlet | None, last: int | None = None
    ) -> AsyncGenerator[Frame]:
        """Yield the journal first, if `last` is set; then the frames of the subscription, and the journal again after
        each gap.
        """
        take = partial(_sent_at_once, position, outlet) if outlet is not None else None
        if last is not None:
            async for missed in self._caught_up(position, last):
                yield missed
        while not position.is_settled:
            try:
                frame = await subscription.next(HEARTBEAT_S, take)
            except FeedClosedError:
                raise draining(position.task_id, position.seen) from None
            except Lagged:
                async for missed in self._caught_up(position):
                    yield missed
                continue
            if frame is None:
                yield _heartbeat(position)
                if await self._index.find(position.task_id) is None:
                    raise no_such_task(position.task_id)
                async for missed in self._caught_up(position):
                    yield missed
                continue
            if frame.follows > position.seen:  # keep the order of events
                async for missed in self._stored(position):
                    yield missed
            new = position.new_of(frame)
            if new is None and frame.arm == "waiting":
                new = self._waiting(position)
            if new is not None:
                for piece in pieces_of(new):
                    yield piece

    def _waiting(self, position: WatchPosition) -> Frame | None:
        """Return a frame with the task's current wait; None if it does not wait, or if the watcher knows the wait."""
        last = position.last
        return position.new_wait(self._wait_of(position.task_id, last.attempt, last.create_time))

    async def _caught_up(self, position: WatchPosition, last: int = 0) -> AsyncGenerator[Frame]:
        """Yield the journal from the position on, then the text of the turn in progress, or the task's wait."""
        async for frame in self._stored(position, last):
            yield frame
        while not position.is_settled:
            text = await self._feed.snapshot(position.task_id)
            if text is None:
                if (waiting := self._waiting(position)) is not None:
                    yield waiting
                return
            if text.event.sequence <= position.seen:
                new = position.new_of(text)
                for piece in pieces_of(new) if new is not None else ():
                    yield piece
                return
            async for frame in self._stored(position):
                yield frame

    async def _stored(self, position: WatchPosition, last: int = 0) -> AsyncIterator[Frame]:
        """Yield the journal from the position on. Events before `last` are old: later events changed the state."""
        while True:
            page = await self._journal.read(position.task_id, after_sequence=position.seen, limit=PAGE)
            for event in page:
                if position.advance(event, is_old=event.sequence < last):
                    yield Frame(event)
            if len(page) < PAGE:
                return

    async def settled(self, task_id: str, running: RunningTask | None = None) -> FoldedTask:
        """Return the task once it has ended or waits for input; `running` is set if this process drives it.

        Raises:
            As `watch`.
        """
        if running is not None:
            await running.ended()
            if running.is_settled:
                return running.folded
            if self._drain.stops_at is not None:
                raise draining(task_id, running.folded.task.last_sequence)
        row = await self._index.find(task_id)
        async with self.watch(task_id, row.last.sequence if row else 0) as frames:
            async for _ in frames:
                pass  # the last frame ends the loop
        folded = await read_folded(self._journal, task_id)
        if not folded.task.state:
            raise no_such_task(task_id)
        return folded


def draining(task_id: str = "", last_sequence: int = 0) -> OverloadedError:
    """Return the error of a draining process. For a task that continues elsewhere, it has the task's id and the
    sequence to watch from.
    """
    metadata = {"task_id": task_id, "last_sequence": str(last_sequence)} if task_id else {}
    return OverloadedError(reasons.ERROR_REASON_DRAINING, "the server is shutting down", metadata=metadata)


def _sent_at_once(position: WatchPosition, outlet: Outlet, frame: Frame) -> bool:
    """Send live text to the caller, if it has taken all before and nothing must be read from the journal first."""
    if not 0 < frame.text_length <= PIECE_LENGTH_MAX or frame.follows > position.seen or not outlet.is_ready:
        return False
    new = position.new_of(frame)
    if new is not None:
        outlet.send(new)
    return True


def _heartbeat(position: WatchPosition) -> Frame:
    event = TaskEvent(task_id=position.task_id, sequence=position.seen, heartbeat=Heartbeat())
    event.create_time.GetCurrentTime()
    return Frame(event)

"""Follows tasks: what is in the journal, then what happens now, each journaled event once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from agent_service.engine.attempt.live_text import pieces_of
from agent_service.engine.dispatch.runner import Runner, RunningTask
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.sweeps.waits import WaitOf
from agent_service.engine.task.state import INPUT_REQUIRED, FoldedTask
from agent_service.errors import OverloadedError
from agent_service.feed.base import FeedClosedError, Lagged, Subscription
from agent_service.journal.event_rules import TERMINAL, is_journaled, state_after
from agent_service.llm.tokens import utf8_length
from agent_service.service.reading import no_such_task
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import Heartbeat, TaskEvent, TextDelta
from agent_service.v1.task_pb2 import Waiting

HEARTBEAT_S = 15.0
# Events may be large; a slow watcher holds so many of them at a time.
PAGE = 100


class TaskWatcher:
    """Shows the events of tasks that run here, elsewhere, later, or no more."""

    def __init__(self, runner: Runner, wait_of: WaitOf) -> None:
        self._runner = runner
        self._wait_of = wait_of
        self._journal = runner.ports.journal
        self._index = runner.ports.index
        self._feed = runner.ports.feed

    async def watch(self, task_id: str, after: int) -> AsyncGenerator[TaskEvent]:
        """Every journaled event above `after`, then live ones, until the task has ended or waits for input.

        Raises:
            NotFoundError: TASK_NOT_FOUND, also once it is erased. OverloadedError: DRAINING, this process stops;
            STORE_UNAVAILABLE.
        """
        with self._feed.subscribe(task_id) as subscription:
            row = await self._index.find(task_id)
            if row is None:
                raise no_such_task(task_id)
            last = row.last.sequence
            place = _Place(task_id, min(after, last))
            place.last = row.last
            place.is_settled = row.state == INPUT_REQUIRED or row.state in TERMINAL
            for part in (self._caught_up(place, last), self.live(subscription, place)):
                async with aclosing(part) as events:
                    async for event in events:
                        # Who names a sequence that is still to come does not want what is below it.
                        if event.sequence > after or not is_journaled(event):
                            yield event

    async def live(self, subscription: Subscription, place: _Place) -> AsyncGenerator[TaskEvent]:
        """What a subscription brings, and where it has gaps the journal, until the task has ended or waits for input.

        Raises:
            As `watch`.
        """
        while not place.is_settled:
            try:
                event = await subscription.next(HEARTBEAT_S)
            except FeedClosedError:
                raise draining(place.task_id, place.seen) from None
            except Lagged:
                async for missed in self._caught_up(place):
                    yield missed
                continue
            if event is None:
                yield _heartbeat(place)
                if await self._index.find(place.task_id) is None:
                    raise no_such_task(place.task_id)
                async for missed in self._caught_up(place):
                    yield missed
                continue
            # Nothing is shown before what it follows: text carries the sequence of the event before it.
            if event.sequence > place.seen + is_journaled(event):
                async for missed in self._stored(place):
                    yield missed
            new = place.new_of(event)
            if new is None and event.HasField("waiting"):
                new = self._waiting(place)
            for piece in pieces_of(new) if new is not None else ():
                yield piece

    def _waiting(self, place: _Place) -> TaskEvent | None:
        """What the task waits for now; None where it does not wait, or the watcher knows."""
        last = place.last
        return place.new_wait(self._wait_of(place.task_id, last.attempt, last.create_time))

    async def _caught_up(self, place: _Place, last: int = 0) -> AsyncGenerator[TaskEvent]:
        """The journal from that place on, and behind it the text of the turn that is in progress here, or what the task
        waits for.
        """
        async for event in self._stored(place, last):
            yield event
        while not place.is_settled:
            running = self._runner.running.get(place.task_id)
            text = running.text_so_far() if running else None
            if text is None:
                if (waiting := self._waiting(place)) is not None:
                    yield waiting
                return
            if text.sequence <= place.seen:
                new = place.new_of(text)
                for piece in pieces_of(new) if new is not None else ():
                    yield piece
                return
            async for event in self._stored(place):
                yield event

    async def _stored(self, place: _Place, last: int = 0) -> AsyncIterator[TaskEvent]:
        """The journal from that place on. Before `last`, what an event leads to is known to have changed since."""
        while True:
            page = await self._journal.read(place.task_id, after_sequence=place.seen, limit=PAGE)
            for event in page:
                place.saw(event, is_old=event.sequence < last)
                yield event
            if len(page) < PAGE:
                return

    async def settled(self, task_id: str, running: RunningTask | None = None) -> FoldedTask:
        """The task once it has ended or waits for input; `running` where this process drives it.

        Raises:
            As `watch`.
        """
        if running is not None:
            await running.ended()
            if running.is_settled:
                return running.folded
            if self._runner.ports.drain.stops_at is not None:
                raise draining(task_id, running.folded.task.last_sequence)
        row = await self._index.find(task_id)
        async with aclosing(self.watch(task_id, row.last.sequence if row else 0)) as events:
            async for _ in events:
                """Its last one ends the loop."""
        folded = await read_folded(self._journal, task_id)
        if not folded.task.state:
            raise no_such_task(task_id)
        return folded


class _Place:
    """Where a watcher is: the last event it saw, how much live text of which try, what the task waits for, and whether
    more is to come.

    A try is named by its turn, attempt and number. Text of one that is not above `_over` comes too late.
    """

    __slots__ = ("_over", "_text", "_text_bytes", "_waiting", "is_settled", "last", "seen", "task_id")

    def __init__(self, task_id: str, seen: int = 0) -> None:
        self.task_id = task_id
        self.seen = seen
        self.last = TaskEvent()
        self.is_settled = False
        self._waiting: Waiting | None = None
        self._over = self._text = (0, 0, 0)
        self._text_bytes = 0

    def saw(self, event: TaskEvent, *, is_old: bool = False) -> None:
        self.seen, self.last = event.sequence, event
        arm = event.WhichOneof("event") or ""
        if arm == "model_replied":
            self._over = (event.model_replied.turn + 1, 0, 0)
        elif arm == "model_failed":
            self._over = (event.model_failed.turn, event.attempt, event.model_failed.try_number)
        state = state_after(event)
        if state and not is_old:
            self.is_settled = state == INPUT_REQUIRED or state in TERMINAL

    def new_of(self, event: TaskEvent) -> TaskEvent | None:
        """The event, or of its text what the watcher does not have yet; None if there is nothing new in it."""
        if self.is_settled:
            return None
        if event.HasField("text_delta"):
            return self._new_text_of(event)
        if event.HasField("reasoning_delta"):
            delta = event.reasoning_delta
            return event if (delta.turn, event.attempt, delta.try_number) > self._over else None
        if event.sequence <= self.seen:
            return None
        self.saw(event)
        return event

    def new_wait(self, waiting: Waiting | None) -> TaskEvent | None:
        """What the task waits for, as an event; None where that is nothing, or known."""
        if waiting is None or waiting == self._waiting or self.is_settled:
            return None
        self._waiting = waiting
        event = TaskEvent(task_id=self.task_id, sequence=self.seen, attempt=self.last.attempt, waiting=waiting)
        event.create_time.GetCurrentTime()
        return event

    def _new_text_of(self, event: TaskEvent) -> TaskEvent | None:
        delta = event.text_delta
        text = (delta.turn, event.attempt, delta.try_number)
        if text <= self._over:
            return None
        if text != self._text:
            self._text, self._text_bytes = text, 0
        known = self._text_bytes - delta.offset
        if known < 0:
            # A piece from the middle, of a turn that was over before the watcher could be told its beginning.
            return None
        self._text_bytes = max(self._text_bytes, delta.offset + utf8_length(delta.text))
        if known == 0:
            return event
        rest = delta.text.encode()[known:].decode()
        if not rest:
            return None
        # A new message: others have the whole one.
        new = TaskEvent(text_delta=TextDelta(offset=delta.offset + known, text=rest))
        new.text_delta.turn, new.text_delta.try_number = delta.turn, delta.try_number
        new.task_id, new.sequence, new.attempt = event.task_id, event.sequence, event.attempt
        new.create_time.CopyFrom(event.create_time)
        return new


def place_at_start(task_id: str) -> _Place:
    """Where a watcher is that has seen nothing."""
    return _Place(task_id)


def draining(task_id: str = "", last_sequence: int = 0) -> OverloadedError:
    """This process is on its way out; a task that goes on is named, with the sequence to watch it from."""
    metadata = {"task_id": task_id, "last_sequence": str(last_sequence)} if task_id else {}
    return OverloadedError(reasons.ERROR_REASON_DRAINING, "the server is shutting down", metadata=metadata)


def _heartbeat(place: _Place) -> TaskEvent:
    event = TaskEvent(task_id=place.task_id, sequence=place.seen, heartbeat=Heartbeat())
    event.create_time.GetCurrentTime()
    return event

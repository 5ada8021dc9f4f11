"""Follows tasks: what is in the journal, then what happens now, each journaled event once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from agent_service.engine.reading import read_folded
from agent_service.engine.runner import Runner, RunningTask
from agent_service.engine.task_state import INPUT_REQUIRED, FoldedTask
from agent_service.errors import OverloadedError
from agent_service.feed.base import FeedClosedError, Lagged, Subscription
from agent_service.store.base import TERMINAL, state_after
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import Heartbeat, TaskEvent, TextDelta

HEARTBEAT_S = 15.0
# Events may be large; a slow watcher holds so many of them at a time.
PAGE = 100


class TaskWatcher:
    """Shows the events of tasks that run here, elsewhere, later, or no more."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._store = runner.ports.store
        self._feed = runner.ports.feed

    async def watch(self, task_id: str, after: int) -> AsyncGenerator[TaskEvent]:
        """Every journaled event above `after`, then live ones, until the task has ended or waits for input.

        Raises:
            OverloadedError: DRAINING, this process stops; STORE_UNAVAILABLE.
        """
        with self._feed.subscribe(task_id) as subscription:
            row = await self._store.find(task_id)
            place = _Place(task_id, after)
            # Erased meanwhile, it is over too.
            place.is_settled = row is None or row.state == INPUT_REQUIRED or row.state in TERMINAL
            async for event in self._stored(place, row.last.sequence if row else 0):
                yield event
            if place.is_settled:
                return
            running = self._runner.running.get(task_id)
            text = running.text_so_far() if running else None
            if text is not None:
                place.saw_text(text.text_delta)
                yield text
            async with aclosing(self.live(subscription, place)) as events:
                async for event in events:
                    yield event

    async def live(self, subscription: Subscription, place: _Place) -> AsyncGenerator[TaskEvent]:
        """What a subscription brings, and where it has gaps the journal, until the task has ended or waits for input.

        Raises:
            OverloadedError: as in `watch`.
        """
        while not place.is_settled:
            try:
                event = await subscription.next(HEARTBEAT_S)
            except FeedClosedError:
                raise draining(place.task_id, place.seen) from None
            except Lagged:
                async for stored in self._stored(place):
                    yield stored
                continue
            if event is None:
                yield _heartbeat(place)
                async for stored in self._stored(place):
                    yield stored
            elif not is_journaled(event):
                if not event.HasField("text_delta") or place.is_new_text(event.text_delta):
                    yield event
            elif event.sequence > place.seen + 1:
                async for stored in self._stored(place):
                    yield stored
            elif event.sequence > place.seen:
                place.saw(event)
                yield event

    async def _stored(self, place: _Place, up_to: int = 0) -> AsyncIterator[TaskEvent]:
        """The journal from that place on. Up to `up_to`, what an event leads to is known to have changed since."""
        while page := await self._store.read(place.task_id, after_sequence=place.seen, limit=PAGE):
            for event in page:
                place.saw(event, is_old=event.sequence < up_to)
                yield event

    async def settled(self, task_id: str, running: RunningTask | None = None) -> FoldedTask:
        """The task once it has ended or waits for input; `running` where this process drives it.

        Raises:
            OverloadedError: as in `watch`.
        """
        if running is not None:
            await running.ended()
            if running.is_settled:
                return running.folded
            if self._runner.ports.drain.stops_at is not None:
                raise draining(task_id, running.folded.task.last_sequence)
        row = await self._store.find(task_id)
        async with aclosing(self.watch(task_id, row.last.sequence if row else 0)) as events:
            async for _ in events:
                """Its last one ends the loop."""
        return await read_folded(self._store, task_id)


class _Place:
    """Where a watcher is: the last sequence it saw, how much live text, and whether more is to come."""

    __slots__ = ("_text", "_text_bytes", "is_settled", "seen", "task_id")

    def __init__(self, task_id: str, seen: int = 0) -> None:
        self.task_id = task_id
        self.seen = seen
        self.is_settled = False
        self._text = (0, 0)
        self._text_bytes = 0

    def saw(self, event: TaskEvent, *, is_old: bool = False) -> None:
        self.seen = event.sequence
        state = state_after(event, event.WhichOneof("event") or "")
        if state and not is_old:
            self.is_settled = state == INPUT_REQUIRED or state in TERMINAL

    def saw_text(self, delta: TextDelta) -> None:
        self._text = (delta.turn, delta.try_number)
        self._text_bytes = delta.offset + len(delta.text.encode())

    def is_new_text(self, delta: TextDelta) -> bool:
        """Whether it goes on behind the text that the watcher was given when it came."""
        return (delta.turn, delta.try_number) != self._text or delta.offset >= self._text_bytes


def place_at_start(task_id: str) -> _Place:
    """Where a watcher is that has seen nothing."""
    return _Place(task_id)


def is_journaled(event: TaskEvent) -> bool:
    """Whether the event is in the journal, or was only live."""
    return not (event.HasField("text_delta") or event.HasField("heartbeat"))


def draining(task_id: str = "", last_sequence: int = 0) -> OverloadedError:
    """This process is on its way out; a task that goes on is named, with the sequence to watch it from."""
    metadata = {"task_id": task_id, "last_sequence": str(last_sequence)} if task_id else {}
    return OverloadedError(reasons.ERROR_REASON_DRAINING, "the server is shutting down", metadata=metadata)


def _heartbeat(place: _Place) -> TaskEvent:
    event = TaskEvent(task_id=place.task_id, sequence=place.seen, heartbeat=Heartbeat())
    event.create_time.GetCurrentTime()
    return event

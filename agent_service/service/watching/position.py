"""The position of a watcher in a task: pure, without a store, a feed or a clock."""

from __future__ import annotations

from agent_service.engine.task.state import INPUT_REQUIRED
from agent_service.feed.frame import Frame, rest_of
from agent_service.journal.event_rules import TERMINAL, state_after
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Waiting


class WatchPosition:
    """The last event that a watcher has seen, the live text of the current try, the task's wait, and whether the task
    is settled.

    A watcher may start after a sequence that does not exist yet; events up to there are counted and not shown. A try is
    identified by turn, attempt and number; text of a try not above `_over` is too late and dropped.
    """

    __slots__ = ("_after", "_over", "_text", "_text_end", "_waiting", "is_settled", "last", "seen", "task_id")

    def __init__(
        self, task_id: str, after: int = 0, last: TaskEvent | None = None, *, is_settled: bool = False
    ) -> None:
        self.task_id = task_id
        self.last = TaskEvent() if last is None else last
        self.seen = min(after, self.last.sequence)
        self._after = after
        self.is_settled = is_settled
        self._waiting: Waiting | None = None
        self._over = self._text = (0, 0, 0)
        self._text_end = 0

    def advance(self, event: TaskEvent, *, is_old: bool = False) -> bool:
        """Advance past a journaled event. Return whether the watcher is shown it. `is_old`: later events exist, so its
        state is not the current one.
        """
        self.seen, self.last = event.sequence, event
        arm = event.WhichOneof("event") or ""
        if arm == "model_replied":
            self._over = (event.model_replied.turn + 1, 0, 0)
        elif arm == "model_failed":
            self._over = (event.model_failed.turn, event.attempt, event.model_failed.try_number)
        state = state_after(event)
        if state and not is_old:
            self.is_settled = state == INPUT_REQUIRED or state in TERMINAL
        return event.sequence > self._after

    def new_of(self, frame: Frame) -> Frame | None:
        """Return the frame, or the part of its text that the watcher lacks; None if nothing in it is new."""
        if self.is_settled:
            return None
        if frame.arm == "text_delta":
            return self._new_text_of(frame)
        event = frame.event
        if frame.arm == "reasoning_delta":
            delta = event.reasoning_delta
            return frame if (delta.turn, event.attempt, delta.try_number) > self._over else None
        return frame if event.sequence > self.seen and self.advance(event) else None

    def new_wait(self, waiting: Waiting | None) -> Frame | None:
        """Return a frame with the task's wait; None if it does not wait, or if the watcher knows the wait."""
        if waiting is None or waiting == self._waiting or self.is_settled:
            return None
        self._waiting = waiting
        event = TaskEvent(task_id=self.task_id, sequence=self.seen, attempt=self.last.attempt, waiting=waiting)
        event.create_time.GetCurrentTime()
        return Frame(event)

    def _new_text_of(self, frame: Frame) -> Frame | None:
        delta = frame.event.text_delta
        text = (delta.turn, frame.event.attempt, delta.try_number)
        if text <= self._over:
            return None
        if text != self._text:
            self._text, self._text_end = text, 0
        known = self._text_end - delta.offset
        if known < 0:
            # A piece from the middle of a turn that ended before the watcher got the beginning.
            return None
        if known and self._text_end >= frame.text_end:
            return None
        self._text_end = frame.text_end
        return rest_of(frame, known) if known else frame

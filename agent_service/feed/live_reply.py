"""The text of the reply that a model is writing."""

from __future__ import annotations

from agent_service.v1.task_event_pb2 import TaskEvent, TextDelta


class LiveReply:
    """The text of one reply so far. The task's driver appends to `pieces`; the feed reads them when a watcher joins in
    the middle.
    """

    __slots__ = ("_attempt", "_try_number", "_turn", "pieces")

    def __init__(self, attempt: int, turn: int, try_number: int) -> None:
        self._attempt = attempt
        self._turn = turn
        self._try_number = try_number
        self.pieces: list[str] = []

    def as_event(self, task_id: str, sequence: int) -> TaskEvent | None:
        """Return the whole text so far as one delta from the beginning, of any length; None if there is none.

        `sequence` is that of the last journaled event.
        """
        if not self.pieces:
            return None
        if len(self.pieces) > 1:
            self.pieces[:] = ["".join(self.pieces)]
        delta = TextDelta(turn=self._turn, try_number=self._try_number, text=self.pieces[0])
        event = TaskEvent(task_id=task_id, sequence=sequence, attempt=self._attempt, text_delta=delta)
        event.create_time.GetCurrentTime()
        return event

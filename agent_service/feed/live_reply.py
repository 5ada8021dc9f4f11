"""The text of the reply that a model writes now."""

from __future__ import annotations

from agent_service.v1.task_event_pb2 import TaskEvent, TextDelta


class LiveReply:
    """All that a model has written of one reply. Whoever drives the task appends to `pieces`; the feed reads them when
    somebody begins to watch in the middle.
    """

    __slots__ = ("_attempt", "_try_number", "_turn", "pieces")

    def __init__(self, attempt: int, turn: int, try_number: int) -> None:
        self._attempt = attempt
        self._turn = turn
        self._try_number = try_number
        self.pieces: list[str] = []

    def as_event(self, task_id: str, sequence: int) -> TaskEvent | None:
        """Everything so far as one delta from the beginning, however long; None if there is nothing.

        `sequence` is that of the last event that was journaled before.
        """
        if not self.pieces:
            return None
        if len(self.pieces) > 1:
            self.pieces[:] = ["".join(self.pieces)]
        delta = TextDelta(turn=self._turn, try_number=self._try_number, text=self.pieces[0])
        event = TaskEvent(task_id=task_id, sequence=sequence, attempt=self._attempt, text_delta=delta)
        event.create_time.GetCurrentTime()
        return event

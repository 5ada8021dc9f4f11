"""Live text of one model request, or live reasoning: a few larger pieces instead of one message for every token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from agent_service.engine.journal_writer import JournalWriter, nothing
from agent_service.llm.tokens import utf8_length
from agent_service.v1.task_event_pb2 import ReasoningDelta, TaskEvent, TextDelta

DELTA_INTERVAL_S = 0.015
DELTA_BYTES_MAX = 4096
# No delta is shown with more text, whatever a model wrote at once: clients receive 4 MiB at most.
PIECE_BYTES_MAX = 64 * 1024


class LiveText:
    """Publishes the first piece at once, later ones at most every DELTA_INTERVAL_S or DELTA_BYTES_MAX.

    Keeps the whole text until `end`, for those who begin to watch in the middle of it; reasoning it does not keep.
    """

    __slots__ = (
        "_bytes",
        "_is_reasoning",
        "_journal",
        "_loop",
        "_offset",
        "_pieces",
        "_published_at",
        "_timer",
        "_try",
        "_turn",
        "_written",
    )

    def __init__(self, journal: JournalWriter, turn: int, try_number: int, *, is_reasoning: bool = False) -> None:
        self._journal = journal
        self._is_reasoning = is_reasoning
        self._turn = turn
        self._try = try_number
        self._loop = asyncio.get_running_loop()
        self._pieces: list[str] = []
        self._written: list[str] = []
        self._bytes = 0
        self._offset = 0
        self._published_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        if not is_reasoning:
            journal.text_so_far = self.so_far

    @property
    def written_bytes(self) -> int:
        """How much the model has written so far, in UTF-8 bytes."""
        return self._offset + self._bytes

    def add(self, text: str) -> None:
        """The model has written some more."""
        self._bytes += utf8_length(text)
        if not self._is_reasoning:
            self._written.append(text)
        if not self._journal.is_watched:
            # Whoever comes later gets all of it at once.
            self._drop()
            return
        self._pieces.append(text)
        if self._timer is not None and self._bytes < DELTA_BYTES_MAX:
            return
        wait_s = self._published_at + DELTA_INTERVAL_S - self._loop.time()
        if wait_s <= 0 or self._bytes >= DELTA_BYTES_MAX:
            self.flush()
        else:
            self._timer = self._loop.call_later(wait_s, self.flush)

    def flush(self) -> None:
        """Publish what is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pieces:
            return
        self._journal.publish_transient(self._delta(self._offset, self._pieces))
        self._published_at = self._loop.time()
        self._drop()

    def end(self) -> None:
        """Publish what is there; nothing is added any more."""
        self.flush()
        if not self._is_reasoning:
            self._journal.text_so_far = nothing

    def so_far(self) -> TaskEvent | None:
        """All that was written, as one delta from the beginning, however long; None if there is nothing."""
        if not self._written:
            return None
        self._written = ["".join(self._written)]
        return self._journal.as_transient(self._delta(0, self._written))

    def _delta(self, offset: int, pieces: list[str]) -> TaskEvent:
        place: Any = {"turn": self._turn, "try_number": self._try, "offset": offset}
        if self._is_reasoning:
            event = TaskEvent(reasoning_delta=ReasoningDelta(**place, text="".join(pieces)))
        else:
            event = TaskEvent(text_delta=TextDelta(**place, text="".join(pieces)))
        event.create_time.GetCurrentTime()
        return event

    def _drop(self) -> None:
        self._pieces.clear()
        self._offset += self._bytes
        self._bytes = 0


def pieces_of(event: TaskEvent) -> Iterator[TaskEvent]:
    """The text of a delta in deltas of PIECE_BYTES_MAX at most, cut between code points."""
    is_text = event.HasField("text_delta")
    delta = event.text_delta if is_text else event.reasoning_delta
    if len(delta.text) <= PIECE_BYTES_MAX // 4:
        yield event
        return
    text, start = delta.text.encode(), 0
    while start < len(text):
        end = start + PIECE_BYTES_MAX
        while end < len(text) and text[end] & 0xC0 == 0x80:  # inside of a code point
            end -= 1
        piece = TaskEvent(
            task_id=event.task_id, sequence=event.sequence, create_time=event.create_time, attempt=event.attempt
        )
        part = piece.text_delta if is_text else piece.reasoning_delta
        part.turn, part.try_number = delta.turn, delta.try_number
        part.offset, part.text = delta.offset + start, text[start:end].decode()
        yield piece
        start = end

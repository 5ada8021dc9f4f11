"""Live text or reasoning of one model request, published in a few larger pieces instead of one message per token."""

from __future__ import annotations

import asyncio
import time

from agent_service.engine.journal_writer import JournalWriter
from agent_service.feed.live_reply import LiveReply
from agent_service.llm.token_counts import utf8_length
from agent_service.text.times import set_nanos
from agent_service.v1.task_event_pb2 import TaskEvent

DELTA_BYTES_MAX = 4096


class LiveText:
    """Publishes the first piece at once, later ones every `Timing.delta_interval` or every DELTA_BYTES_MAX.

    The feed holds the whole text until `end`, for watchers that join in the middle. It does not hold reasoning.
    """

    __slots__ = (
        "_bytes",
        "_channel",
        "_journal",
        "_loop",
        "_offset",
        "_pieces",
        "_published_at",
        "_reply",
        "_timer",
        "_try",
        "_turn",
    )

    def __init__(self, journal: JournalWriter, turn: int, try_number: int, *, is_reasoning: bool = False) -> None:
        self._journal = journal
        self._channel = journal.channel
        self._turn = turn
        self._try = try_number
        self._loop = asyncio.get_running_loop()
        self._pieces: list[str] = []
        self._bytes = 0
        self._offset = 0
        self._published_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._reply: LiveReply | None = None
        if not is_reasoning:
            self._reply = self._channel.reply = LiveReply(journal.attempt, turn, try_number)

    @property
    def written_bytes(self) -> int:
        """The length of the text so far, in UTF-8 bytes."""
        return self._offset + self._bytes

    def add(self, text: str) -> None:
        """Add text that the model has written."""
        self._bytes += len(text) if text.isascii() else utf8_length(text)
        if self._reply is not None:
            self._reply.pieces.append(text)
        if not self._channel.is_watched:
            # A watcher that joins later gets the whole text from the feed.
            self._pieces.clear()
            self._offset += self._bytes
            self._bytes = 0
            return
        self._pieces.append(text)
        if self._timer is not None and self._bytes < DELTA_BYTES_MAX:
            return
        wait_s = self._published_at + self._journal.timing.delta_interval - self._loop.time()
        if wait_s <= 0 or self._bytes >= DELTA_BYTES_MAX:
            self.flush()
        else:
            self._timer = self._loop.call_later(wait_s, self.flush)

    def flush(self) -> None:
        """Publish the collected text."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pieces:
            return
        journal = self._journal
        # A live event has the sequence of the last journaled one.
        event = TaskEvent(task_id=journal.task_id, attempt=journal.attempt, sequence=journal.folded.task.last_sequence)
        delta = event.reasoning_delta if self._reply is None else event.text_delta
        delta.turn, delta.try_number, delta.offset = self._turn, self._try, self._offset
        delta.text = "".join(self._pieces)
        set_nanos(event.create_time, time.time_ns())
        self._channel.publish([event])
        self._published_at = self._loop.time()
        self._pieces.clear()
        self._offset += self._bytes
        self._bytes = 0

    def end(self) -> None:
        """Publish the collected text and end the live reply."""
        self.flush()
        if self._reply is not None and self._channel.reply is self._reply:
            self._channel.reply = None

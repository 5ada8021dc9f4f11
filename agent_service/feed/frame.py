"""Frames: events as watchers receive them. Text frames are joined, cut and continued here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent_service.journal.event_rules import TRANSIENT
from agent_service.v1.agent_service_pb2 import WatchTaskResponse
from agent_service.v1.task_event_pb2 import ReasoningDelta, TaskEvent, TextDelta

# The maximum of text in a frame that is sent, even if a model wrote more at once: clients receive at most 4 MiB.
PIECE_BYTES_MAX = 64 * 1024
MERGED_BYTES_MAX = 64 * 1024
_CODE_POINT_BYTES_MAX = 4
# Text that is sent in one piece, in characters.
PIECE_LENGTH_MAX = PIECE_BYTES_MAX // _CODE_POINT_BYTES_MAX


class Frame:
    """One event and its serialised form, shared by all watchers: never change the event.

    `arm` is the name of the event's field in the oneof. `follows` is the sequence of the last journaled event before
    it; a live event itself has that sequence. `text_length` is the number of characters of live text or reasoning, and
    `text_end` the offset after them in bytes; both are 0 for other events.
    """

    __slots__ = ("_wire", "arm", "event", "follows", "text_end", "text_length")

    def __init__(self, event: TaskEvent) -> None:
        self.event = event
        self.arm = event.WhichOneof("event") or ""
        self.follows = event.sequence if self.arm in TRANSIENT else event.sequence - 1
        self._wire: bytes | None = None
        if self.arm == "text_delta" or self.arm == "reasoning_delta":
            delta: TextDelta | ReasoningDelta = getattr(event, self.arm)
            text = delta.text
            self.text_length = len(text)
            self.text_end = delta.offset + (self.text_length if text.isascii() else len(text.encode()))
        else:
            self.text_length = self.text_end = 0

    def wire(self) -> bytes:
        """Return the serialised StreamTaskResponse or WatchTaskResponse with the event: both have the same wire form.

        Omits `provider_state`, which only the journal and the model's provider may see. Built on the first call.
        """
        if self._wire is None:
            response = WatchTaskResponse(event=self.event)
            if self.arm == "model_replied":
                response.event.model_replied.ClearField("provider_state")
            self._wire = response.SerializeToString()
        return self._wire


def delta_of(event: TaskEvent) -> TextDelta | ReasoningDelta:
    """Return the live text or reasoning in an event."""
    return event.text_delta if event.HasField("text_delta") else event.reasoning_delta


def merged(earlier: Frame, later: Frame) -> Frame | None:
    """Return both texts as one frame; None if they do not join: another kind or try, a gap, or too long."""
    if earlier.arm != later.arm:
        return None
    a, b = delta_of(earlier.event), delta_of(later.event)
    joins = a.turn == b.turn and a.try_number == b.try_number and earlier.text_end == b.offset
    if not joins or b.offset - a.offset > MERGED_BYTES_MAX:
        return None
    # With the sequence of the later one: journaled events after it come after both.
    return _with_text(later.event, a.offset, a.text + b.text)


def rest_of(frame: Frame, known_bytes: int) -> Frame:
    """Return a text frame without its first `known_bytes` bytes."""
    delta = delta_of(frame.event)
    return _with_text(frame.event, delta.offset + known_bytes, delta.text.encode()[known_bytes:].decode())


def pieces_of(frame: Frame) -> Iterable[Frame]:
    """Return the text of a frame in frames of PIECE_BYTES_MAX, cut between code points; other frames as they are."""
    return (frame,) if frame.text_length <= PIECE_LENGTH_MAX else _cut(frame)


def _cut(frame: Frame) -> Iterator[Frame]:
    delta = delta_of(frame.event)
    text, start = delta.text.encode(), 0
    while start < len(text):
        end = start + PIECE_BYTES_MAX
        while end < len(text) and text[end] & 0xC0 == 0x80:  # inside of a code point
            end -= 1
        yield _with_text(frame.event, delta.offset + start, text[start:end].decode())
        start = end


def _with_text(event: TaskEvent, offset: int, text: str) -> Frame:
    """Return a new frame with other text at the sequence of a text event. The event is shared and must not change."""
    new = TaskEvent(
        task_id=event.task_id, sequence=event.sequence, create_time=event.create_time, attempt=event.attempt
    )
    old = delta_of(event)
    delta = new.text_delta if event.HasField("text_delta") else new.reasoning_delta
    delta.turn, delta.try_number, delta.offset, delta.text = old.turn, old.try_number, offset, text
    return Frame(new)

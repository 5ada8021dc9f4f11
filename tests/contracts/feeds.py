"""The feeds that the contract is run on. A new adapter is one more entry in `ADAPTERS`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.feed.base import Feed, Subscription
from agent_service.feed.frame import Frame
from agent_service.feed.memory import MemoryFeed
from agent_service.v1.task_event_pb2 import ReasoningDelta, TaskEvent, TextDelta, ToolStarted

ADAPTERS: dict[str, Callable[[], Feed]] = {"memory": MemoryFeed}

NOT_AT_ALL_S = 0.0
LONG_S = 60.0


def step(sequence: int, task_id: str = "t") -> TaskEvent:
    return TaskEvent(task_id=task_id, sequence=sequence, tool_started=ToolStarted(tool_call_id=f"c{sequence}"))


def delta(offset: int, text: str, *, turn: int = 1, try_number: int = 1, sequence: int = 0) -> TaskEvent:
    piece = TextDelta(turn=turn, try_number=try_number, offset=offset, text=text)
    return TaskEvent(task_id="t", sequence=sequence, create_time=Timestamp(seconds=1), attempt=1, text_delta=piece)


def thought(offset: int, text: str, *, turn: int = 1, try_number: int = 1, sequence: int = 0) -> TaskEvent:
    """The same of the model's reasoning."""
    piece = ReasoningDelta(turn=turn, try_number=try_number, offset=offset, text=text)
    return TaskEvent(task_id="t", sequence=sequence, create_time=Timestamp(seconds=1), attempt=1, reasoning_delta=piece)


async def drain(subscription: Subscription) -> list[TaskEvent]:
    """All that is there now."""
    events = []
    while (frame := await subscription.next(NOT_AT_ALL_S)) is not None:
        events.append(frame.event)
    return events


async def event_of(reading: Awaitable[Frame | None]) -> TaskEvent | None:
    """The event in a frame, if there is one."""
    frame = await reading
    return frame.event if frame is not None else None

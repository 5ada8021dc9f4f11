"""Which frames are new to a watcher, by what it has seen: no store, no feed, no clock."""

from __future__ import annotations

import pytest

from agent_service.feed.frame import Frame
from agent_service.service.watching.position import WatchPosition
from agent_service.v1.task_event_pb2 import (
    InputRequired,
    ModelFailed,
    ModelReplied,
    ReasoningDelta,
    TaskCompleted,
    TaskEvent,
    TextDelta,
    ToolStarted,
)
from agent_service.v1.task_pb2 import WAIT_CAUSE_SLOT, WAIT_CAUSE_STORE, Waiting


def step(sequence: int) -> Frame:
    return Frame(TaskEvent(task_id="t", sequence=sequence, attempt=1, tool_started=ToolStarted()))


def replied(sequence: int, turn: int) -> Frame:
    return Frame(TaskEvent(sequence=sequence, attempt=1, model_replied=ModelReplied(turn=turn)))


def failed(sequence: int, turn: int, try_number: int) -> Frame:
    return Frame(TaskEvent(sequence=sequence, attempt=1, model_failed=ModelFailed(turn=turn, try_number=try_number)))


def text(offset: int, text: str, *, turn: int = 1, try_number: int = 1, attempt: int = 1, sequence: int = 0) -> Frame:
    delta = TextDelta(turn=turn, try_number=try_number, offset=offset, text=text)
    return Frame(TaskEvent(task_id="t", sequence=sequence, attempt=attempt, text_delta=delta))


def thought(turn: int, try_number: int = 1) -> Frame:
    return Frame(TaskEvent(attempt=1, reasoning_delta=ReasoningDelta(turn=turn, try_number=try_number, text="hm")))


def shown(position: WatchPosition, *frames: Frame) -> list[tuple[int, str]]:
    """The offset and the text of what is new in each of these."""
    new = [position.new_of(frame) for frame in frames]
    return [(one.event.text_delta.offset, one.event.text_delta.text) for one in new if one is not None]


def test_each_journaled_event_is_new_once_and_the_frame_itself_is_passed_on() -> None:
    position, frame = WatchPosition("t"), step(1)
    assert position.new_of(frame) is frame
    assert position.new_of(step(1)) is None
    assert (position.seen, position.last) == (1, frame.event)


def test_a_frame_behind_a_gap_says_so() -> None:
    position = WatchPosition("t")
    assert [frame.follows > position.seen for frame in (step(1), step(2))] == [False, True]
    assert [text(0, "a", sequence=at).follows > position.seen for at in (0, 1)] == [False, True]


def test_what_comes_below_the_sequence_that_was_named_is_passed_and_not_shown() -> None:
    position = WatchPosition("t", 4, step(2).event)
    assert position.seen == 2
    assert [position.new_of(step(sequence)) is not None for sequence in (3, 4, 5)] == [False, False, True]
    assert position.seen == 5


def test_text_is_shown_once_whatever_overlaps() -> None:
    position, whole = WatchPosition("t"), text(0, "Größe")
    assert position.new_of(whole) is whole
    assert shown(position, text(0, "Größe"), text(0, "Größe und"), text(4, "ße und"), text(11, " mehr")) == [
        (7, " und"),
        (11, " mehr"),
    ]


def test_text_from_the_middle_is_not_shown_without_its_beginning() -> None:
    assert shown(WatchPosition("t"), text(3, "def"), text(0, "abc"), text(3, "def")) == [(0, "abc"), (3, "def")]


def test_another_try_begins_anew_and_text_of_a_try_that_is_over_comes_too_late() -> None:
    position = WatchPosition("t")
    assert shown(position, text(0, "a"), text(0, "b", try_number=2)) == [(0, "a"), (0, "b")]
    assert position.new_of(failed(1, 1, 2)) is not None
    assert shown(position, text(1, "c", try_number=2), text(0, "d", try_number=3)) == [(0, "d")]
    assert position.new_of(replied(2, 1)) is not None
    late = text(0, "e", try_number=9), text(0, "f", attempt=2), text(0, "g", turn=2)
    assert shown(position, *late) == [(0, "g")]


def test_reasoning_of_a_turn_that_is_over_comes_too_late() -> None:
    position = WatchPosition("t")
    position.new_of(replied(1, 1))
    assert [position.new_of(thought(turn)) is not None for turn in (1, 2)] == [False, True]


@pytest.mark.parametrize("end", [TaskEvent(completed=TaskCompleted()), TaskEvent(input_required=InputRequired())])
def test_nothing_is_new_once_the_task_has_ended_or_waits_for_input(end: TaskEvent) -> None:
    position, end.sequence = WatchPosition("t"), 1
    assert position.new_of(Frame(end)) is not None
    assert position.is_settled
    assert [position.new_of(frame) for frame in (step(2), text(0, "a"), thought(1))] == [None] * 3
    assert position.new_wait(Waiting(cause=WAIT_CAUSE_SLOT)) is None


def test_an_end_that_is_known_to_be_over_ends_nothing() -> None:
    position = WatchPosition("t")
    position.advance(TaskEvent(sequence=1, input_required=InputRequired()), is_old=True)
    assert not position.is_settled


def test_a_wait_is_shown_once_at_the_place_of_the_watcher() -> None:
    position = WatchPosition("t")
    position.new_of(step(3))
    first = position.new_wait(Waiting(cause=WAIT_CAUSE_SLOT))
    assert first is not None
    event = first.event
    assert (event.task_id, event.sequence, event.attempt, event.waiting.cause) == ("t", 3, 1, WAIT_CAUSE_SLOT)
    assert position.new_wait(Waiting(cause=WAIT_CAUSE_SLOT)) is None
    assert position.new_wait(None) is None
    assert position.new_wait(Waiting(cause=WAIT_CAUSE_STORE)) is not None

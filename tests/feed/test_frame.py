"""What a frame is on the wire, and how text frames are cut."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from agent_service.feed import frame as frame_module
from agent_service.feed.frame import PIECE_BYTES_MAX, Frame, delta_of, pieces_of, rest_of
from agent_service.v1.agent_service_pb2 import DESCRIPTOR, WatchTaskResponse
from agent_service.v1.task_event_pb2 import ModelReplied, TaskEvent
from tests.contracts.feeds import delta, step, thought

SERVICE = DESCRIPTOR.services_by_name["AgentService"]
STREAMS = [method for method in SERVICE.methods if method.server_streaming]


@pytest.mark.parametrize("event", [step(1), delta(3, "Größe"), thought(3, "hm"), TaskEvent()])
@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_a_frame_is_the_response_of_every_method_that_streams(event: TaskEvent, method: MethodDescriptor) -> None:
    response: Any = GetMessageClass(method.output_type)
    wire = Frame(event).wire()
    assert wire == response(event=event).SerializeToString()
    assert response.FromString(wire) == response(event=event)


def test_a_frame_is_serialised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Frame(step(1))
    wire = frame.wire()
    monkeypatch.delattr(frame_module, "WatchTaskResponse")
    assert frame.wire() is wire


def test_what_the_models_provider_alone_may_see_is_in_no_frame_and_stays_in_the_event() -> None:
    event = TaskEvent(task_id="t", sequence=5, model_replied=ModelReplied(turn=1, text="hi", provider_state=b"secret"))
    shown = WatchTaskResponse.FromString(Frame(event).wire()).event
    assert shown == TaskEvent(task_id="t", sequence=5, model_replied=ModelReplied(turn=1, text="hi"))
    assert event.model_replied.provider_state == b"secret"


def test_a_frame_says_how_much_text_is_in_it_and_where_that_ends() -> None:
    told = [
        (frame.arm, frame.text_length, frame.text_end) for frame in map(Frame, (delta(3, "Größe"), thought(0, "a")))
    ]
    assert told == [("text_delta", 5, 10), ("reasoning_delta", 1, 1)]
    assert (Frame(step(1)).arm, Frame(step(1)).text_length, Frame(step(1)).text_end) == ("tool_started", 0, 0)


@pytest.mark.parametrize("event", [step(1), delta(0, "short"), thought(0, "short")])
def test_what_is_small_is_not_cut(event: TaskEvent) -> None:
    frame = Frame(event)
    assert list(pieces_of(frame)) == [frame]


@pytest.mark.parametrize("kind", [delta, thought])
@pytest.mark.parametrize("text", ["x" * 200_001, "ß€🌍" * 30_000, "🌍" * 16_385])
def test_a_long_text_is_cut_between_code_points(kind: type, text: str) -> None:
    pieces = list(pieces_of(Frame(kind(7, text, turn=2, try_number=3, sequence=4))))
    assert "".join(delta_of(piece.event).text for piece in pieces) == text
    at = 7
    for piece in pieces:
        assert delta_of(piece.event).offset == at
        assert 0 < piece.text_end - at <= PIECE_BYTES_MAX
        at = piece.text_end
    first = pieces[0].event
    first_delta = delta_of(first)
    assert (first_delta.turn, first_delta.try_number, first.sequence, first.attempt) == (2, 3, 4, 1)


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_rest_of_a_text_begins_where_the_known_part_ends(known: str, rest: str) -> None:
    frame = Frame(delta(4, known + rest, sequence=9))
    left = rest_of(frame, len(known.encode()))
    assert left.event == delta(4 + len(known.encode()), rest, sequence=9)
    assert left.text_end == frame.text_end

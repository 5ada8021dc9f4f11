"""The event reader: however the network cuts a stream, its events are the same."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.llm.openai.body import events
from agent_service.llm.openai.body.events import BrokenReplyError, EventReader
from agent_service.llm.openai.chat.reply import ReplyAssembler

STREAM = '\ufeffdata: {"a": "✓"}\r\n\r\n: note\n\ndata:1\ndata: 2\n\nevent: x\ndata: [DONE]\n\ndata: cut'.encode()
EVENTS = ['{"a": "✓"}'.encode(), b"1\n2", b"[DONE]", b"cut"]


@given(st.lists(st.integers(min_value=3, max_value=len(STREAM)), max_size=20))
def test_events_do_not_depend_on_where_the_network_cuts(cuts: list[int]) -> None:
    reader = EventReader()
    ends = [0, *sorted(cuts), len(STREAM)]
    events = [event for start, end in pairwise(ends) for event in reader.feed(STREAM[start:end])]
    assert events + reader.finish() == EVENTS


def test_events_may_come_byte_by_byte() -> None:
    reader = EventReader()
    assert [event for byte in b"data: a\n\ndata: b\n\n" for event in reader.feed(bytes([byte]))] == [b"a", b"b"]


def test_a_stream_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REPLY_BYTES_MAX", 100)
    reader = EventReader()
    reader.feed(b"data: x\n\n" * 10)
    with pytest.raises(BrokenReplyError, match="too long"):
        reader.feed(b"data: x\n\n" * 10)


@given(st.binary())
def test_no_bytes_break_the_assembler_in_another_way_than_its_own(data: bytes) -> None:
    assembler = ReplyAssembler()
    try:
        assembler.add_event(data)
    except BrokenReplyError:
        return
    assembler.text.take()
    assert not assembler.has_output


VALUES: list[object] = [None, True, 0, 1, -1, 1.5, 10**15, "", "x", "stop", "{}", [], ["x"], [{}], {}, {"x": 1}]
JSON = st.sampled_from(VALUES)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": JSON,
        "refusal": JSON,
        "reasoning": JSON,
        "tool_calls": JSON
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": JSON,
                    "id": JSON,
                    "function": st.fixed_dictionaries({}, optional={"name": JSON, "arguments": JSON}) | JSON,
                },
            )
        ),
    },
)
CHUNK = st.fixed_dictionaries(
    {},
    optional={
        "model": JSON,
        "usage": st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), JSON) | JSON,
        "choices": st.lists(
            st.fixed_dictionaries({}, optional={"index": JSON, "delta": DELTA | JSON, "finish_reason": JSON}),
            max_size=2,
        )
        | JSON,
    },
)


@given(st.lists(CHUNK, max_size=4))
def test_chunks_of_any_form_make_a_reply_or_are_broken(chunks: list[dict[str, object]]) -> None:
    assembler = ReplyAssembler()
    try:
        for chunk in chunks:
            assembler.add_event(orjson.dumps(chunk))
        assembler.add_event(b"[DONE]")
        text = assembler.text.take()
        reply = assembler.reply(input_bytes=30, calls_before=0, model_id="m")
    except BrokenReplyError:
        assert assembler.usage(30).input_tokens >= 0
        return
    assert reply.text == text
    assert all(call.id and call.name for call in reply.tool_calls)

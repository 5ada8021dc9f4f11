"""The OpenAI adapter: how it puts tool calls together out of what servers send."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agent_service.llm.base import Message, ModelReply, ModelRequest, Role
from agent_service.llm.openai.chat.call_pieces import ToolCallPieces
from agent_service.llm.openai.model import OpenAIModel
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.tool_pb2 import ToolCall
from tests.fakes.provider import FakeProvider, document, finish, stream, tool_call, usage
from tests.llm.observer import RecordingObserver

HELLO = ModelRequest([Message(Role.USER, "hello")])
TOOL_CALLS = FinishReason.FINISH_REASON_TOOL_CALLS


def calls_of(reply: ModelReply) -> list[tuple[str, str, str]]:
    return [(call.id, call.name, call.arguments_json) for call in reply.tool_calls]


async def test_parallel_tool_calls_are_put_together_from_their_pieces_with_their_exact_text(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    pieces = [
        tool_call(0, "a1", "weather", ""),
        tool_call(0, arguments='{"city":  "Bo'),
        tool_call(1, "b2", "time", "{"),
        tool_call(0, arguments='nn"}'),
        tool_call(1, arguments="}"),
    ]
    provider.will(stream(*pieces, finish("tool_calls"), usage()))
    reply = await model.generate(HELLO, observer)
    assert calls_of(reply) == [("a1", "weather", '{"city":  "Bonn"}'), ("b2", "time", "{}")]
    assert reply.finish_reason == TOOL_CALLS


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(
            [tool_call(0, "a", "f", '{"x":1}'), tool_call(0, "b", "g", '{"y":2}')],
            [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
            id="index 0 for every call",
        ),
        pytest.param(
            [tool_call(0, None, "f", "{}"), tool_call(0, None, "f", "{}")],
            [("call_1", "f", "{}"), ("call_2", "f", "{}")],
            id="index 0 for every call and no ids",
        ),
        pytest.param(
            [tool_call(None, "a", "f", "{"), tool_call(None, "a", None, "}"), tool_call(None, "b", "g", "{}")],
            [("a", "f", "{}"), ("b", "g", "{}")],
            id="no index",
        ),
        pytest.param(
            [tool_call(0, "a", "f", '{"x"'), tool_call(0, "a", "f", ":1}")],
            [("a", "f", '{"x":1}')],
            id="id and name repeated in every piece",
        ),
        pytest.param(
            [tool_call(0, "a", "get_", ""), tool_call(0, "", "time", "{}")],
            [("a", "get_time", "{}")],
            id="a name in pieces",
        ),
        pytest.param(
            [tool_call(0, "a", "f", {"x": 1})], [("a", "f", '{"x":1}')], id="arguments as an object, not its text"
        ),
        pytest.param([tool_call(0, "a", "f")], [("a", "f", "")], id="no arguments"),
        pytest.param([tool_call(0, "a", "f", "{not json")], [("a", "f", "{not json")], id="arguments that are no JSON"),
    ],
)
async def test_tool_calls_of_servers_with_habits_of_their_own(
    provider: FakeProvider,
    model: OpenAIModel,
    observer: RecordingObserver,
    pieces: list[dict[str, Any]],
    expected: list[tuple[str, str, str]],
) -> None:
    provider.will(stream(*pieces, finish("stop")))
    reply = await model.generate(HELLO, observer)
    assert calls_of(reply) == expected
    assert reply.finish_reason == TOOL_CALLS


async def test_ids_that_we_make_count_on_over_the_conversation(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(stream(tool_call(0, None, "f", "{}"), finish("tool_calls")))
    earlier = Message(Role.ASSISTANT, "", [ToolCall(id="call_1", name="f"), ToolCall(id="call_2", name="f")])
    reply = await model.generate(ModelRequest([Message(Role.USER, "go"), earlier]), observer)
    assert calls_of(reply) == [("call_3", "f", "{}")]


async def test_the_calls_of_a_json_document_stand_side_by_side(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    calls = [{"index": 0, "type": "function", "function": {"name": name, "arguments": "{"}} for name in ("a", "b")]
    provider.will(document({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}))
    reply = await model.generate(HELLO, observer)
    assert calls_of(reply) == [("call_1", "a", "{"), ("call_2", "b", "{")]


def test_a_piece_costs_as_much_in_long_arguments_as_in_short_ones() -> None:
    def cpu_s(pieces: int) -> float:
        assembler = ToolCallPieces()
        assembler.add([{"index": 0, "id": "a", "function": {"name": "note", "arguments": "{"}}], are_whole=False)
        piece = [{"index": 0, "function": {"arguments": " token"}}]
        began = time.process_time()
        for _ in range(pieces):
            assembler.add(piece, are_whole=False)
        return (time.process_time() - began) / pieces

    assert cpu_s(40_000) < 5 * min(cpu_s(2_000) for _ in range(3))

"""Habits of servers of the Responses API with output items: odd indexes, ids, lists and ends.

Each reply meets a task over two real sockets, like those of `test_habits.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
import pytest

from tests.fakes import provider as chat
from tests.fakes.provider import FakeProvider, Json, Reply, cut_stream
from tests.fakes.responses import document, events, failed, function_call, incomplete, message, reasoning, stream, usage
from tests.llm.conftest import MakeModel
from tests.llm.openai.chat.test_habits import CLOCK, NOTHING_RAN, WEATHER, Comes
from tests.llm.openai.responses.test_responses_habits import BONN, FINE, HALF, LIMIT, changed, check, sent, without

BOTH = Comes(requests=2, ran=("clock()", "moon()"))
CLOCK_ITEM = function_call("fc_1", "call_1", "clock", "{}")
MOON_ITEM = function_call("fc_2", "call_2", "moon", "{}")
WEATHER_ITEM = function_call(name="weather", arguments=BONN)
BROKEN = Comes(requests=2)


def kinds(found: Sequence[Json], *gone: str) -> list[Json]:
    """The events without those of these kinds."""
    return [event for event in found if event["type"] not in gone]


def last(found: Sequence[Json], **more: object) -> list[Json]:
    """The events, with other values in the response of the last one."""
    *rest, end = found
    return [*rest, end | {"response": end["response"] | more}]


def indexed(found: Sequence[Json], index: Callable[[int], object]) -> list[Json]:
    """The events, with another output_index in those that have one."""
    return [
        event | {"output_index": index(event["output_index"])} if "output_index" in event else event for event in found
    ]


ARGUMENTS_DONE = "response.function_call_arguments.done"
ARGUMENTS_DELTA = "response.function_call_arguments.delta"
ADDED = "response.output_item.added"
DONE = "response.output_item.done"


def item_with(found: Sequence[Json], kind: str, **values: object) -> list[Json]:
    """The events, with other values in the items of those of this kind."""
    return [event | {"item": event["item"] | values} if event["type"] == kind else event for event in found]


TWO = events(CLOCK_ITEM, MOON_ITEM)
ENDS = [event for event in TWO if event["type"] == DONE]
CASES: dict[str, tuple[Reply, Comes]] = {
    "A completed with incomplete status": (
        stream(*last(events(function_call(name="wipe")), status="incomplete", **incomplete())),
        NOTHING_RAN,
    ),
    "A completed with incomplete details": (
        stream(*last(events(function_call(name="wipe")), **incomplete())),
        NOTHING_RAN,
    ),
    "A incomplete without a reason": (stream(*events(function_call(name="wipe"), status="incomplete")), NOTHING_RAN),
    "A incomplete text without a reason": (
        stream(*events(HALF, status="incomplete")),
        Comes(output="half an ans", is_cut=True),
    ),
    "A incomplete for stop": (
        stream(*events(function_call(name="wipe"), status="incomplete", **incomplete("stop"))),
        NOTHING_RAN,
    ),
    "A completed with failed status": (
        stream(*last(events(message(text="half")), status="failed", **failed("server_error"))),
        BROKEN,
    ),
    "A cut before the end": (cut_stream(*events(function_call(name="wipe"))[:-1]), BROKEN),
    "A arguments alone are of an item that never ended": (
        stream(*kinds(last(events(function_call(name="wipe")), output=[]), DONE, ARGUMENTS_DONE)),
        BROKEN,
    ),
    "E response.done": (stream(*changed(FINE, "response.completed", type="response.done")), Comes()),
    "E status in_progress at the end": (stream(*last(FINE, status="in_progress")), Comes()),
    "E status null at the end": (stream(*last(FINE, status=None)), Comes()),
    "E document without status": (
        chat.document({k: v for k, v in document(message(text="fine")).items() if k != "status"}),
        Comes(),
    ),
    "E document in progress": (chat.document(document(message(text="fi"), status="in_progress")), BROKEN),
    "E output null at the end": (stream(*last(FINE, output=None)), Comes()),
    "E output missing and item.done missing": (stream(*kinds(last(FINE, output=None), DONE)), Comes()),
    "G text in done alone": (
        stream(*kinds(last(FINE, output=[]), DONE, "response.output_text.delta", ADDED, "response.content_part.done")),
        Comes(),
    ),
    "G message of empty content beside deltas": (stream(*last(item_with(FINE, DONE, content=[]), output=[])), Comes()),
    "G thoughts in a message": (
        stream(
            *last(
                item_with(
                    FINE,
                    DONE,
                    content=[{"type": "reasoning_text", "text": "hm"}, {"type": "output_text", "text": "fine"}],
                )
            )
        ),
        Comes(),
    ),
    "G item without type": (
        chat.document(document({"role": "assistant", "content": [{"type": "output_text", "text": "fine"}]})),
        Comes(),
    ),
    "G web search beside text": (
        chat.document(
            document(
                {
                    "id": "ws_1",
                    "type": "web_search_call",
                    "status": "completed",
                    "action": {"type": "search", "query": "x"},
                },
                message(text="fine"),
            )
        ),
        Comes(),
    ),
    "G think tags alone": (stream(*events(message(text="<think>hm</think>"))), BROKEN),
    "H every output_index 0": (stream(*indexed(TWO, lambda _: 0)), BOTH),
    "H every output_index null": (stream(*indexed(TWO, lambda _: None)), BOTH),
    "H indexes from 1": (stream(*indexed(TWO, lambda index: index + 1)), BOTH),
    "H indexes with a gap": (stream(*indexed(TWO, lambda index: index * 2 + 3)), BOTH),
    "H index as text": (stream(*indexed(TWO, lambda index: str(index))), BOTH),
    "H item done twice": (stream(*TWO[:-1], *ENDS, TWO[-1]), BOTH),
    "H item done twice without index": (stream(*without("output_index", *TWO[:-1], *ENDS), TWO[-1]), BOTH),
    "H done out of order": (stream(*TWO[:2], *reversed(ENDS), TWO[-1]), BOTH),
    "H arguments in done alone": (
        stream(*last(item_with(kinds(events(WEATHER_ITEM), ARGUMENTS_DELTA), DONE, arguments=""), output=[])),
        WEATHER,
    ),
    "H arguments in deltas alone": (
        stream(*last(item_with(kinds(events(WEATHER_ITEM), ARGUMENTS_DONE), DONE, arguments=""), output=[])),
        WEATHER,
    ),
    "H arguments in arguments.done, no item.done": (
        stream(*kinds(last(events(WEATHER_ITEM), output=[]), DONE)),
        WEATHER,
    ),
    "H arguments in arguments.done, no item.done, [DONE]": (
        sent(*kinds(events(WEATHER_ITEM), DONE)[:-1], after=b"data: [DONE]\n\n"),
        BROKEN,
    ),
    "H item.done missing for the last": (
        stream(*[e for e in TWO if not (e["type"] == DONE and e["output_index"] == 1)]),
        BOTH,
    ),
    "H ids change between added and done": (
        stream(*item_with(events(WEATHER_ITEM), ADDED, id="other", call_id="call_x")),
        WEATHER,
    ),
    "H ids change at the end": (stream(*last(TWO, output=[CLOCK_ITEM | {"id": "x1"}, MOON_ITEM | {"id": "x2"}])), BOTH),
    "H reasoning left out of the last list": (
        stream(*last(events(reasoning(), CLOCK_ITEM), output=[CLOCK_ITEM])),
        CLOCK,
    ),
    "H last list has more": (
        stream(*last(events(message(text="Let me see.")), output=[message(text="Let me see."), CLOCK_ITEM])),
        CLOCK,
    ),
    "H last list has more in front": (stream(*last(events(CLOCK_ITEM), output=[reasoning(), CLOCK_ITEM])), CLOCK),
    "H status null": (stream(*events(function_call(name="clock", status=None))), CLOCK),
    "H status in_progress on a done call": (stream(*events(function_call(name="clock", status="in_progress"))), CLOCK),
    "H call_id null": (stream(*events(function_call(name="clock") | {"call_id": None})), CLOCK),
    "H two calls without any ids": (
        chat.document(
            document(
                {"type": "function_call", "name": "clock", "arguments": "{}"},
                {"type": "function_call", "name": "moon", "arguments": "{}"},
            )
        ),
        BOTH,
    ),
    "H namespace": (stream(*events(function_call(name="functions.weather", arguments=BONN))), WEATHER),
    "I CR": (sent(*[], before=b"".join(b"data: %b\r\r" % orjson.dumps(e) for e in FINE)), Comes()),
    "I single newlines": (sent(*[], before=b"".join(b"data: %b\n" % orjson.dumps(e) for e in FINE)), Comes()),
    "I JSON lines": (
        sent(*[], before=b"".join(b"%b\n" % orjson.dumps(e) for e in FINE), as_type="application/x-ndjson"),
        Comes(),
    ),
    "I pings": (
        sent(
            *FINE,
            before=b'event: ping\ndata: {"type":"ping"}\n\n: x\n\ndata: {"type":"keepalive","sequence_number":1}\n\n',
        ),
        Comes(),
    ),
    "J error null and empty": (stream(*last(FINE, error={})), Comes()),
    "J error with code null": (stream(*last(FINE, error={"code": None, "message": None})), Comes()),
    "J output of odd things": (stream(*last(FINE, output=[None, 1, "x", message(text="fine")])), Comes()),
    "L response.error": (
        stream({"type": "response.error", "error": {"code": "rate_limit_exceeded", "message": "slow"}}),
        LIMIT,
    ),
    "L failed without response": (stream({"type": "response.failed", "error": {"code": "rate_limit_exceeded"}}), LIMIT),
    "L error in a completed one": (
        stream(*last(events(message(text="half")), error={"code": "rate_limit_exceeded", "message": "slow"})),
        LIMIT,
    ),
    "L flat document": (chat.document({"code": 429, "msg": "slow"}), LIMIT),
    "L detail document": (
        chat.document({"detail": "model crashed"}),
        Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=None),
    ),
    "L numeric code": (stream({"type": "error", "code": 429, "message": "slow"}), LIMIT),
    "L a chat error": (sent({"error": {"code": "rate_limit_exceeded", "message": "slow"}}), LIMIT),
    "M usage zero": (stream(*events(message(text="fine"), usage=usage(0, 0))), Comes(charged=None)),
    "M usage null": (stream(*events(message(text="fine"), usage=None)), Comes(charged=None)),
    "M usage beside the response": (
        stream(*last(FINE, usage=None)[:-1], last(FINE, usage=None)[-1] | {"usage": usage(5, 3)}),
        Comes(charged=(5, 3, 0)),
    ),
    "M usage of details null": (
        stream(
            *events(
                message(text="fine"),
                usage={
                    "input_tokens": 5,
                    "output_tokens": 3,
                    "input_tokens_details": None,
                    "output_tokens_details": None,
                },
            )
        ),
        Comes(charged=(5, 3, 0)),
    ),
    "M cost of a failed one": (
        stream(*events(message(text="half"), status="failed", **failed("server_error"))),
        BROKEN,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_habit_comes_to_what_is_right(provider: FakeProvider, make_model: MakeModel, name: str) -> None:
    await check(provider, make_model, *CASES[name])

"""Habits of servers of the Responses API: what was reported of Chat Completions, where this API has its like.

Each reply meets a task over two real sockets, like those of `test_habits.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from agent_service.errors import reason_name
from agent_service.llm.openai.request_settings import Api
from tests.fakes import provider as chat
from tests.fakes.provider import FakeProvider, Json, Reply, cut_stream, hanging_stream, status
from tests.fakes.responses import (
    document,
    error,
    events,
    failed,
    function_call,
    incomplete,
    message,
    reasoning,
    stream,
    usage,
)
from tests.harness import Parts, started
from tests.llm.conftest import MakeModel
from tests.llm.openai.chat.test_habits import CLOCK, FILTERED, NOTHING_RAN, WEATHER, Comes, Ran, tried

GOOD = stream(*events(message(text="fine")))
BONN = '{"city":"Bonn"}'
HALF = message(text="half an ans")
CUT = {"status": "incomplete", **incomplete()}
FILTER = {"status": "incomplete", **incomplete("content_filter")}
LIMIT = Comes(output="", reason="LLM_RATE_LIMITED", requests=3, charged=None)
ONCE = Comes(output="", reason="LLM_RATE_LIMITED", charged=None)


def sent(*found: Json, as_type: str = "text/event-stream", before: bytes = b"", after: bytes = b"") -> Reply:
    """The events under another content type, with bytes around them."""
    body = before + b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in found) + after
    return status(200, body, headers={"content-type": as_type})


def without(key: str, *found: Json) -> list[Json]:
    return [{name: value for name, value in event.items() if name != key} for event in found]


def changed(found: Sequence[Json], kind: str, **values: object) -> list[Json]:
    """The events, with other values in those of this kind."""
    return [event | values if event["type"] == kind else event for event in found]


FINE = events(message(text="fine"))
CASES: dict[str, tuple[Reply, Comes]] = {
    # A: calls of a reply that was cut.
    "A cut call": (stream(*events(function_call(name="wipe", arguments=""), **CUT)), NOTHING_RAN),
    "A whole call beside a cut one": (
        stream(
            *events(
                function_call(name="wipe", arguments='{"scope":"cache"}'),
                function_call("fc_2", "call_2", "weather", '{"ci', status="incomplete"),
                **CUT,
            )
        ),
        NOTHING_RAN,
    ),
    "A filtered call": (stream(*events(function_call(name="wipe"), **FILTER)), FILTERED),
    "A a call that says it is incomplete": (
        stream(*events(function_call(name="wipe", status="incomplete"))),
        NOTHING_RAN,
    ),
    "A a document that was cut": (chat.document(document(function_call(name="wipe"), **CUT)), NOTHING_RAN),
    # E: ends.
    "E [DONE] alone": (sent(*FINE[:-1], after=b"data: [DONE]\n\n"), Comes(charged=None)),
    "E [DONE] behind the end": (sent(*FINE, after=b"data: [DONE]\n\n"), Comes()),
    "E neither": (sent(*FINE[:-1]), Comes(requests=2)),
    "E [DONE] in the middle of an item": (sent(*FINE[:-2], after=b"data: [DONE]\n\n"), Comes(requests=2)),
    "E cut behind the end": (cut_stream(*FINE), Comes()),
    "E left open behind the end": (hanging_stream(*FINE), Comes()),
    # F: reasons.
    "F cut text": (stream(*events(HALF, **CUT)), Comes(output="half an ans", is_cut=True)),
    "F max_tokens": (
        stream(*events(HALF, **CUT | incomplete("max_tokens"))),
        Comes(output="half an ans", is_cut=True),
    ),
    "F filtered": (stream(*events(HALF, **FILTER)), FILTERED),
    "F aborted": (
        stream(*events(HALF, **CUT | incomplete("abort"))),
        Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=None),
    ),
    "F cancelled": (stream(*changed(FINE, "response.completed", type="response.cancelled")), Comes(requests=2)),
    # G: nothing.
    "G no items": (stream(*events()), Comes(requests=2)),
    "G an empty message": (stream(*events(message(text=" "))), Comes(requests=2)),
    "G reasoning alone": (stream(*events(reasoning())), Comes(requests=2)),
    "G reasoning alone, cut": (
        stream(*events(reasoning(), **CUT)),
        Comes(output="", reason="LLM_NO_ANSWER", charged=None),
    ),
    "G unknown parts": (
        chat.document(document(message() | {"content": [{"type": "text", "text": "fine"}]})),
        Comes(),
    ),
    # H: calls.
    "H no call_id": (stream(*events(function_call(call_id="", name="weather", arguments=BONN))), WEATHER),
    "H arguments as an object": (
        chat.document(document(function_call(name="weather") | {"arguments": {"city": "Bonn"}})),
        WEATHER,
    ),
    "H arguments encoded twice": (
        stream(*events(function_call(name="weather", arguments=orjson.dumps(BONN).decode()))),
        WEATHER,
    ),
    "H null arguments": (stream(*events(function_call(arguments="null"))), CLOCK),
    "H a list of arguments": (stream(*events(function_call(arguments="[]"))), CLOCK),
    "H no arguments": (stream(*events(function_call(arguments=""))), CLOCK),
    "H a name with blanks": (stream(*events(function_call(name="weather\n", arguments=BONN))), WEATHER),
    "H a template's token in a name": (
        stream(*events(function_call(name="weather<|channel|>commentary", arguments=BONN))),
        WEATHER,
    ),
    "H no output_index": (
        stream(*without("output_index", *events(function_call(name="weather", arguments=BONN)))),
        WEATHER,
    ),
    # I: framing.
    "I as JSON": (sent(*FINE, as_type="application/json"), Comes()),
    "I as text": (sent(*FINE, as_type="text/plain"), Comes()),
    "I a document as events": (
        chat.document(document(message(text="fine")), content_type="text/event-stream"),
        Comes(),
    ),
    "I a byte order mark": (sent(*FINE, before=b"\xef\xbb\xbf"), Comes()),
    "I events without data": (sent(*FINE, before=b"data:\n\ndata: \n\n"), Comes()),
    "I junk": (sent(*FINE, before=b"data: ping\n\n"), Comes()),
    "I no deltas": (stream(*[event for event in FINE if "delta" not in event]), Comes()),
    "I items in the last event alone": (stream(FINE[-1]), Comes()),
    "I the last event without items": (
        stream(*FINE[:-1], {"type": "response.completed", "response": document(usage=usage())}),
        Comes(),
    ),
    # J: side things.
    "J usage as a list": (stream(*events(message(text="fine"), usage=[1])), Comes(charged=None)),
    "J model as a number": (stream(*events(message(text="fine"), model=7)), Comes()),  # type: ignore[arg-type] # odd
    "J no sequence numbers": (stream(*without("sequence_number", *FINE)), Comes()),
    "J events of another day": (stream({"type": "response.thought.delta", "delta": 1}, *FINE), Comes()),
    # K: text.
    "K halves of a pair": (
        sent(
            *FINE[:2],
            after=b'data: {"type":"response.output_text.delta","delta":"a\\ud83d"}\n\n'
            b'data: {"type":"response.output_text.delta","delta":"\\ude00"}\n\n'
            b'data: {"type":"response.completed","response":%b}\n\n' % orjson.dumps(document()),
        ),
        Comes(output="a\N{GRINNING FACE}"),
    ),
    # L: errors.
    "L an error event": (stream(error("rate_limit_exceeded")), LIMIT),
    "L an error inside one": (stream({"type": "error", "error": {"code": "rate_limit_exceeded"}}), LIMIT),
    "L failed": (stream(*events(status="failed", **failed("rate_limit_exceeded"))), LIMIT),
    "L failed for a quota": (stream(*events(status="failed", **failed("insufficient_quota"))), ONCE),
    "L failed for a filter": (
        stream(*events(status="failed", **failed("content_policy_violation"))),
        Comes(output="", reason="LLM_REJECTED", charged=None),
    ),
    "L a failed document": (chat.document(document(status="failed", **failed("rate_limit_exceeded"))), LIMIT),
    # M: usage.
    "M Chat Completions' names": (
        stream(*events(message(text="fine"), usage={"prompt_tokens": 5, "completion_tokens": 3})),
        Comes(charged=(5, 3, 0)),
    ),
    "M one half": (
        stream(*events(message(text="fine"), usage={"input_tokens": 5, "output_tokens": None, "total_tokens": 8})),
        Comes(charged=(5, 3, 0)),
    ),
    "M cached": (stream(*events(message(text="fine"), usage=usage(5, 3, cached=4))), Comes(charged=(5, 3, 4))),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_habit_comes_to_what_is_right(provider: FakeProvider, make_model: MakeModel, name: str) -> None:
    await check(provider, make_model, *CASES[name])


async def check(provider: FakeProvider, make_model: MakeModel, first: Reply, comes: Comes) -> None:
    """A task that this reply meets first comes to that."""
    ran = Ran()
    again = first if comes.reason else GOOD
    provider.will(first, *[again] * 3)
    model = tried(make_model(api=Api.RESPONSES, total_s=10.0, first_token_s=5.0, idle_s=5.0))
    async with started(Parts(model=model, tools=ran.tools())) as running:
        seen = [event async for event in running.client.stream("hi")]
        task = await running.client.get_task(seen[-1].task_id)

    assert (task.output, reason_name(task.failure.reason)) == (comes.output, comes.reason or "UNSPECIFIED")
    assert list(ran) == list(comes.ran)
    assert len(provider.requests) == comes.requests
    assert task.output_truncated == comes.is_cut
    used = [event.model_replied.usage for event in seen if event.HasField("model_replied")]
    if comes.charged is not None:
        assert (used[-1].input_tokens, used[-1].output_tokens, used[-1].cached_input_tokens) == comes.charged
    elif not comes.reason:
        assert used[-1].estimated

"""What our assemblers read out of a stream is what OpenAI's own package reads, or stands in a table of differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings

from agent_service.llm.openai.body.events import BrokenReplyError, InBandError
from tests.fakes import responses
from tests.fakes.provider import Json, chunk, event, finish, text, tool_call, usage
from tests.llm.openai.accumulation import Package, Reading, read_chat_by_us, read_responses_by_us
from tests.llm.openai.streams import CUTS, chat_stream, response_stream

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@pytest.fixture(scope="module")
def package() -> Package:
    return Package()


@pytest.mark.timeout(240)  # a second or two of CPU for every hundred, on a machine that may be busy
@MANY
@given(chat_stream(), CUTS)
def test_a_chat_completion_reads_as_openais_package_reads_it(package: Package, body: bytes, cuts: list[int]) -> None:
    assert read_chat_by_us(body, cuts) == package.read_chat(body)


@pytest.mark.timeout(240)  # a second or two of CPU for every hundred, on a machine that may be busy
@MANY
@given(response_stream(), CUTS)
def test_a_response_reads_as_openais_package_reads_it(package: Package, body: bytes, cuts: list[int]) -> None:
    assert read_responses_by_us(body, cuts) == package.read_responses(body)


# Where the two differ, and why ours is right.


@dataclass(frozen=True, slots=True)
class Difference:
    """A stream that the package reads otherwise, or not at all. `ours` is our reading, or the error that it is."""

    reason: str
    body: bytes
    ours: Reading | type[Exception]


def chat(*chunks: Json | bytes, done: bool = True) -> bytes:
    """A stream of chunks and a usage."""
    events = [one if isinstance(one, bytes) else event(one) for one in (*chunks, usage())]
    return b"".join(events) + (b"data: [DONE]\n\n" if done else b"")


def said(words: str = "fine", finish: str = "stop") -> Reading:
    return Reading(words, (), finish, (11, 0, 7, 0))


def called(*calls: tuple[str, str, str]) -> Reading:
    return Reading("", calls, "tool_calls", (11, 0, 7, 0))


TWO = called(("a", "clock", '{"x":1}'), ("b", "moon", '{"y":2}'))
ONE = called(("a", "clock", '{"x":1}'))
CALLED = finish("tool_calls")
CHAT_DIFFERENCES = [
    Difference(
        "one index for all calls: they are known by their ids",
        chat(tool_call(0, "a", "clock", '{"x":1}'), tool_call(0, "b", "moon", '{"y":2}'), CALLED),
        TWO,
    ),
    Difference(
        "calls without an index are in the order of their names",
        chat(tool_call(None, "a", "clock", '{"x":1}'), tool_call(None, "b", "moon", '{"y":2}'), CALLED),
        TWO,
    ),
    Difference(
        "indexes that begin anywhere",
        chat(tool_call(1, "a", "clock", '{"x":1}'), tool_call(2, "b", "moon", '{"y":2}'), CALLED),
        TWO,
    ),
    Difference(
        "a placeholder before the arguments is none of them",
        chat(tool_call(0, "a", "clock", "{}"), tool_call(0, arguments='{"x":1}'), CALLED),
        ONE,
    ),
    Difference(
        "the whole arguments again at the end are the same arguments",
        chat(
            tool_call(0, "a", "clock", '{"x"'), tool_call(0, arguments=":1}"), tool_call(0, arguments='{"x":1}'), CALLED
        ),
        ONE,
    ),
    Difference(
        "an id of every piece: the first is the call's",
        chat(tool_call(0, "a", "clock", '{"x"'), tool_call(0, "b", arguments=":1}"), CALLED),
        ONE,
    ),
    Difference(
        "a name in every piece is one name",
        chat(tool_call(0, "a", "clock", '{"x"'), tool_call(0, "a", "clock", arguments=":1}"), CALLED),
        ONE,
    ),
    Difference(
        "arguments that are an object are its text",
        chat(tool_call(0, "a", "clock", {"x": 1}), CALLED),
        ONE,
    ),
    Difference("a call has an id", chat(tool_call(0, None, "clock", "{}"), CALLED), called(("call_1", "clock", "{}"))),
    Difference(
        "a name ends where a template's token begins",
        chat(tool_call(0, "a", "clock<|channel|>json", '{"x":1}'), CALLED),
        ONE,
    ),
    Difference("a reply with calls wants them run", chat(tool_call(0, "a", "clock", '{"x":1}'), finish()), ONE),
    Difference(
        "a legacy call is a call",
        chat(chunk({"function_call": {"name": "clock", "arguments": "{}"}}), finish("function_call")),
        called(("call_1", "clock", "{}")),
    ),
    Difference(
        "a list of parts is their text", chat(chunk({"content": [{"type": "text", "text": "fine"}]}), finish()), said()
    ),
    Difference("text and refusal are both read", chat(text("fi"), chunk({"refusal": "ne"}), finish()), said()),
    Difference("[DONE] is an end", chat(text("fine")), said()),
    Difference("a stream without any end is cut off", chat(text("fine"), done=False), BrokenReplyError),
    Difference("nothing is no answer", chat(text(""), finish()), BrokenReplyError),
    Difference("a server that gave up has not answered", chat(text("fi"), finish("abort")), BrokenReplyError),
    Difference("other words for a length", chat(text("fi"), finish("max_tokens")), said("fi", "length")),
    Difference("other words for a filter", chat(text("fi"), finish("SAFETY")), said("fi", "content_filter")),
    Difference("what is no JSON is passed over", chat(text("fine"), b"data: {oops\n\n", finish()), said()),
    Difference("an event without data is none", chat(b"data:\n\n", text("fine"), finish()), said()),
    Difference(
        "a usage stays known when more chunks come",
        b"".join(map(event, (text("fine"), usage(), finish()))) + b"data: [DONE]\n\n",
        said(),
    ),
]


def stream_of(*events: Json) -> bytes:
    return b"".join(map(responses.encoded, events))


def without(*kinds: str) -> list[Json]:
    return [one for one in EVENTS if one["type"] not in kinds]


def ending(output: object) -> list[Json]:
    last = EVENTS[-1]
    return [*EVENTS[:-1], last | {"response": last["response"] | {"output": output}}]


MESSAGE = responses.message("msg_1", "fine")
EVENTS = responses.events(responses.reasoning(), MESSAGE)
RESPONSE_DIFFERENCES = [
    Difference("a failure is one", stream_of(*responses.events(status="failed", **responses.failed())), InBandError),
    Difference("an error is one", stream_of(*EVENTS[:5], responses.error()), InBandError),
    Difference("a stream without its end is cut off", stream_of(*EVENTS[:-1]), BrokenReplyError),
    Difference("nothing is no answer", stream_of(*responses.events(responses.message(text=""))), BrokenReplyError),
    Difference("reasoning alone is no answer", stream_of(*responses.events(responses.reasoning())), BrokenReplyError),
    Difference("a last document without the items that were done", stream_of(*ending([])), said()),
    Difference(
        "the items that were done count", stream_of(*ending([responses.message("msg_1", "something else")])), said()
    ),
    Difference("no event of the beginning is needed", stream_of(*without("response.created")), said()),
    Difference(
        "a call that is not whole was cut off",
        stream_of(*responses.events(MESSAGE, responses.function_call() | {"status": "incomplete"})),
        Reading("fine", (("call_1", "clock", "{}"),), "length", (11, 0, 7, 0)),
    ),
]


def reading(read: Callable[[bytes], Reading], body: bytes) -> Reading | type[Exception]:
    try:
        return read(body)
    except Exception as exc:  # noqa: BLE001 - the package has many ways to fail
        return BrokenReplyError if isinstance(exc, BrokenReplyError) else type(exc)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("difference", CHAT_DIFFERENCES, ids=lambda one: one.reason)
def test_a_difference_over_chat_completions(package: Package, difference: Difference) -> None:
    assert reading(read_chat_by_us, difference.body) == difference.ours
    assert reading(package.read_chat, difference.body) != difference.ours


@pytest.mark.parametrize("difference", RESPONSE_DIFFERENCES, ids=lambda one: one.reason)
def test_a_difference_over_responses(package: Package, difference: Difference) -> None:
    assert reading(read_responses_by_us, difference.body) == difference.ours
    assert reading(package.read_responses, difference.body) != difference.ours


def test_text_that_came_without_deltas_is_shown_all_the_same(package: Package) -> None:
    body = stream_of(*without("response.output_text.delta"))
    assert read_responses_by_us(body) == package.read_responses(body) == said()

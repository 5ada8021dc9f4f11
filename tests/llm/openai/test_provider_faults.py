"""What becomes of a task whose provider fails, fault by fault, over two real sockets: the provider's and the caller's.

Each fault meets the first try, and a whole reply waits for the second. Told of each: how the task ended, which tries it
took, what watchers saw of each try's text, and what was charged, to the task and to the limit.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import pytest

from agent_service.errors import reason_name
from agent_service.limits.base import Charge, Rule, Stage, Subject
from agent_service.llm.base import Model
from agent_service.llm.breaker import Breaking, CircuitBreaker
from agent_service.llm.openai.body.events import LINE_BYTES_MAX
from agent_service.llm.openai.request_settings import Api
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.llm.token_counts import tokens_in
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Usage
from tests.fakes import responses
from tests.fakes.provider import (
    FakeProvider,
    Json,
    Reply,
    chunk,
    cut_stream,
    document,
    finish,
    hang,
    hang_up,
    hanging_stream,
    slow_stream,
    status,
    stream,
    text,
    tool_call,
    usage,
)
from tests.harness import Parts, Running, started
from tests.llm.conftest import MakeModel
from tests.llm.openai.wires import WIRES, Wire

HUGE = "x" * (1024 * 1024 + 1)
ENDLESS = b"data: " + b"x" * (LINE_BYTES_MAX + 1)
TOKENS_MAX = 1_000_000
RULE = Rule(name="all", per=frozenset(), tokens_max=TOKENS_MAX, window_s=3600.0)
# What the provider is taken to have read, where it does not say: as much as was sent.
SENT = -1


def error(code: str, kind: str = "server_error") -> Json:
    return {"error": {"message": "words of the provider", "type": kind, "code": code}}


@dataclass(frozen=True, slots=True)
class Fault:
    """A provider's bad answer, and what it comes to. `reason` is the failed try's; "" where it is no failure.

    `saw` is the text that watchers saw of it, `charged` its tokens, read and written.
    """

    name: str
    reply: Reply
    reason: str
    again: bool = True
    saw: str = ""
    charged: tuple[int, int] = (0, 0)


REFUSALS = [
    # Nothing was worked on, so nothing is charged.
    Fault("307", status(307, headers={"location": "http://127.0.0.1:1/"}), "LLM_UNAVAILABLE", again=False),
    Fault("400", status(400, error("context_length_exceeded")), "LLM_REJECTED", again=False),
    Fault("401", status(401, error("invalid_api_key")), "LLM_AUTH", again=False),
    Fault("403", status(403), "LLM_AUTH", again=False),
    Fault("404", status(404, error("model_not_found")), "MODEL_NOT_FOUND", again=False),
    Fault("408", status(408), "LLM_TIMEOUT"),
    Fault("409", status(409), "LLM_UNAVAILABLE"),
    Fault("413", status(413), "LLM_REJECTED", again=False),
    Fault("422", status(422), "LLM_REJECTED", again=False),
    Fault("429", status(429, headers={"retry-after-ms": "1"}), "LLM_RATE_LIMITED"),
    Fault("429 without quota", status(429, error("insufficient_quota")), "LLM_RATE_LIMITED", again=False),
    Fault("429 for a day", status(429, headers={"retry-after": "86400"}), "LLM_RATE_LIMITED", again=False),
    Fault("500", status(500, b"<html>"), "LLM_UNAVAILABLE"),
    Fault(
        "500 not to be asked again", status(500, headers={"x-should-retry": "false"}), "LLM_UNAVAILABLE", again=False
    ),
    Fault("500 of a bad request", status(500, error("x", "invalid_request_error")), "LLM_REJECTED", again=False),
    Fault("502", status(502), "LLM_UNAVAILABLE"),
    Fault("503", status(503, error("overloaded")), "LLM_UNAVAILABLE"),
    Fault("504", status(504), "LLM_UNAVAILABLE"),
    Fault("a call that its server cannot read", status(400, error("tool_use_failed")), "LLM_NO_ANSWER"),
]


def slow(wire: Wire) -> list[Fault]:
    """What was asked is taken to be read."""
    some, drip = wire.text("some"), wire.text("drip")
    return [
        Fault("no answer", hang, "LLM_TIMEOUT", charged=(SENT, 0)),
        Fault("no first token", hanging_stream(), "LLM_TIMEOUT", charged=(SENT, 0)),
        Fault("keep-alives alone", slow_stream(b": ping\n\n", interval_s=0.02), "LLM_TIMEOUT", charged=(SENT, 0)),
        Fault("silent after some text", hanging_stream(*some), "LLM_TIMEOUT", saw="some", charged=(SENT, 2)),
        Fault("too slow in all", slow_stream(*drip, interval_s=0.05), "LLM_TIMEOUT", saw="drip", charged=(SENT, 1)),
    ]


def cut(wire: Wire) -> list[Fault]:
    some, whole = wire.text("some"), wire.whole("some")
    return [
        Fault("cut before the head", hang_up, "LLM_UNAVAILABLE", charged=(SENT, 0)),
        Fault("cut after the head", cut_stream(), "LLM_UNAVAILABLE", charged=(SENT, 0)),
        Fault("cut in the text", cut_stream(*some), "LLM_UNAVAILABLE", saw="some", charged=(SENT, 2)),
        Fault("cut in a call", cut_stream(*wire.call_begun("echo", '{"te')), "LLM_UNAVAILABLE", charged=(SENT, 3)),
        Fault("cut before the end", cut_stream(*whole[:-1]), "LLM_UNAVAILABLE", saw="some", charged=(SENT, 2)),
        Fault("no end at all", stream(*some, done=False), "LLM_UNAVAILABLE", saw="some", charged=(SENT, 2)),
    ]


def nonsense(wire: Wire) -> list[Fault]:
    so, oops = wire.text("so"), b"data: {oops\n\n"
    return [
        Fault("an error in place of a reply", wire.stream(*wire.error("overloaded")), "LLM_UNAVAILABLE"),
        Fault(
            "an error in the reply", wire.stream(*so, *wire.error("x")), "LLM_UNAVAILABLE", saw="so", charged=(SENT, 1)
        ),
        Fault("a limit told in the reply", wire.stream(*wire.error("rate_limit_exceeded")), "LLM_RATE_LIMITED"),
        Fault("a quota told in the reply", wire.stream(*wire.error("insufficient_quota")), "LLM_RATE_LIMITED", False),
        Fault("a filter told in the reply", wire.stream(*wire.error("content_filter")), "LLM_REJECTED", again=False),
        Fault("not JSON", wire.stream(*so, oops), "LLM_UNAVAILABLE", saw="so", charged=(SENT, 1)),
        Fault("not UTF-8", wire.stream(b'data: {"model": "\xff\xfe"}\n\n'), "LLM_UNAVAILABLE", charged=(SENT, 0)),
        Fault("a web page", document(b"<html>", content_type="text/html"), "LLM_UNAVAILABLE", charged=(SENT, 0)),
        Fault("no JSON object", document(b"[]"), "LLM_UNAVAILABLE", charged=(SENT, 0)),
        Fault("a line without end", wire.stream(ENDLESS), "LLM_UNAVAILABLE", again=False, charged=(SENT, 0)),
        Fault("blanks alone", wire.stream(*wire.whole(" \n")), "LLM_NO_ANSWER", saw=" \n", charged=(SENT, 1)),
        Fault("above 1 MiB", wire.document(HUGE, (5, 3)), "LLM_REJECTED", again=False, saw="x", charged=(5, 3)),
    ]


def odd(wire: Wire) -> list[Fault]:
    """A reply all the same."""
    keep_open = hanging_stream(*wire.whole("odd", (5, 3)))
    return [
        Fault("an unknown finish", wire.stream(*wire.whole("odd", (5, 3), finish="because")), "", True, "odd", (5, 3)),
        Fault("no usage", wire.stream(*wire.whole("odd")), "", saw="odd", charged=(SENT, 1)),
        Fault("a document", wire.document("odd", (5, 3)), "", saw="odd", charged=(5, 3)),
        Fault("a stream that is not closed", keep_open, "", saw="odd", charged=(5, 3)),
    ]


CHAT_ALONE = [
    Fault(
        "cut behind the usage",
        cut_stream(text("some"), finish(), usage(5, 3)),
        "LLM_UNAVAILABLE",
        saw="some",
        charged=(5, 3),
    ),
    Fault("no choices", stream({**chunk({}), "choices": []}), "LLM_UNAVAILABLE", charged=(SENT, 0)),
    Fault("nothing in it", stream(finish()), "LLM_NO_ANSWER", charged=(SENT, 0)),
    Fault("a nameless call", stream(tool_call(0, "c", None, "{}"), finish()), "LLM_UNAVAILABLE", charged=(SENT, 1)),
    Fault("calls announced, none made", stream(finish("tool_calls")), "LLM_UNAVAILABLE", charged=(SENT, 0)),
    Fault("no finish, and [DONE]", stream(text("odd"), usage(5, 3)), "", saw="odd", charged=(5, 3)),
    Fault("no [DONE]", stream(text("odd"), finish(), usage(5, 3), done=False), "", saw="odd", charged=(5, 3)),
]
NOTHING: Json = {"usage": responses.usage(5, 3)}
ENDED: Json = {"status": "incomplete", **responses.incomplete()}
RESPONSES_ALONE = [
    Fault(
        "failed",
        responses.stream(*responses.events(status="failed", **responses.failed())),
        "LLM_UNAVAILABLE",
        charged=(11, 7),
    ),
    Fault(
        "failed for a limit",
        responses.stream(*responses.events(status="failed", **responses.failed("rate_limit_exceeded"))),
        "LLM_RATE_LIMITED",
        charged=(11, 7),
    ),
    Fault("nothing in it", responses.stream(*responses.events(**NOTHING)), "LLM_NO_ANSWER", charged=(5, 3)),
    Fault(
        "reasoning alone, up to the maximum",
        responses.stream(*responses.events(responses.reasoning(), **ENDED, **NOTHING)),
        "LLM_NO_ANSWER",
        again=False,
        charged=(5, 3),
    ),
    Fault(
        "a nameless call",
        responses.stream(*responses.events(responses.function_call(name=""), **NOTHING)),
        "LLM_UNAVAILABLE",
        charged=(5, 3),
    ),
    Fault("no items in its events", responses.stream(responses.events()[-1]), "LLM_NO_ANSWER", charged=(11, 7)),
    Fault(
        "its items in the last event alone",
        responses.stream(responses.events(responses.message(text="odd"), **NOTHING)[-1]),
        "",
        saw="odd",
        charged=(5, 3),
    ),
    Fault(
        "[DONE] in place of the last event",
        stream(*responses.events(responses.message(text="odd"))[:-1]),
        "",
        saw="odd",
        charged=(SENT, 1),
    ),
]


def faults_over(wire: Wire) -> list[Fault]:
    alone = CHAT_ALONE if wire.api is Api.CHAT else RESPONSES_ALONE
    return [*REFUSALS, *slow(wire), *cut(wire), *nonsense(wire), *odd(wire), *alone]


FAULTS = [pytest.param(wire, fault, id=f"{wire.api}: {fault.name}") for wire in WIRES for fault in faults_over(wire)]


def tried(model: Model) -> Model:
    """With two tries that come at once."""
    return Breaking(Retrying(model, "fake", RetryBudget(), attempts=2, base_delay_s=0.0), CircuitBreaker())


@asynccontextmanager
async def serving(model: Model) -> AsyncIterator[Running]:
    async with started(Parts(model=tried(model), tools=BUILTIN_TOOLS, rules=[RULE])) as running:
        yield running


@dataclass
class Seen:
    """What a watcher saw of a task."""

    events: list[TaskEvent]

    def tries(self) -> list[tuple[int, str]]:
        """Number and outcome of each try: the reason of its failure, or nothing."""
        failed = [(one.try_number, reason_name(one.failure.reason)) for one in self.of("model_failed")]
        return failed + [(one.try_number, "") for one in self.of("model_replied")]

    def text(self) -> dict[int, str]:
        """The live text of each try."""
        texts: dict[int, str] = {}
        for delta in self.of("text_delta"):
            assert delta.offset == len(texts.get(delta.try_number, "").encode())
            texts[delta.try_number] = texts.get(delta.try_number, "") + delta.text
        return texts

    def of(self, arm: str) -> list[Any]:
        return [getattr(one, arm) for one in self.events if one.WhichOneof("event") == arm]

    @property
    def usages(self) -> list[Usage]:
        return [one.usage for one in (*self.of("model_failed"), *self.of("model_replied"))]


async def watch(running: Running) -> Seen:
    return Seen([event async for event in running.client.stream("hi")])


def charged_to_the_limit(running: Running) -> int:
    subject = Subject("acme", "assistant", "fake")
    limit = running.limiter.reserve_now(Charge(subject, Stage.ALL, tokens=1)).status
    assert limit is not None
    return TOKENS_MAX - 1 - limit.remaining


@pytest.mark.parametrize(("wire", "fault"), FAULTS)
async def test_a_fault(provider: FakeProvider, make_model: MakeModel, wire: Wire, fault: Fault) -> None:
    provider.will(fault.reply, wire.stream(*wire.whole("whole", (11, 7))))
    # Where nothing is slow, nothing is in a hurry: a busy machine is no slow provider.
    patience = 1 if fault.reason == "LLM_TIMEOUT" else 20
    model = make_model(api=wire.api, total_s=0.6 * patience, first_token_s=0.3 * patience, idle_s=0.3 * patience)
    async with serving(model) as running:
        seen = await watch(running)
        task = await running.client.get_task(seen.events[-1].task_id)
        limit = charged_to_the_limit(running)

    is_failed = bool(fault.reason) and not fault.again
    is_repeated = bool(fault.reason) and fault.again
    assert seen.tries() == [(1, fault.reason), *([(2, "")] if is_repeated else [])]
    assert len(provider.requests) == 1 + is_repeated
    assert reason_name(task.failure.reason) == (fault.reason if is_failed else "UNSPECIFIED")
    assert task.output == ("" if is_failed else "whole" if is_repeated else fault.saw)

    shown = seen.text()
    assert shown.pop(2, "") == ("whole" if is_repeated else "")
    first_shown = shown.pop(1, "")
    assert bool(first_shown) == bool(fault.saw)
    assert not first_shown.replace(fault.saw or " ", "")  # a drip drips more than once
    assert not shown

    sent = tokens_in(int(provider.requests[0].headers["content-length"]))
    read, written = fault.charged
    first = seen.usages[0]
    assert first.input_tokens == (sent if read == SENT else read)
    assert first.output_tokens >= written if "slow" in fault.name else first.output_tokens == written
    assert first.estimated == (read == SENT)
    after = (11, 7) if is_repeated else (0, 0)
    assert (task.usage.input_tokens, task.usage.output_tokens) == (
        first.input_tokens + after[0],
        first.output_tokens + after[1],
    )
    assert task.usage.model_calls == 1 + is_repeated
    assert limit == task.usage.input_tokens + task.usage.output_tokens


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Where connections are neither taken nor refused: a listener whose queue is full."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))):
            yield f"http://127.0.0.1:{port}/v1"


async def test_where_nobody_takes_the_connection_nothing_is_charged(make_model: MakeModel, nowhere: str) -> None:
    async with serving(make_model(base_url=nowhere, connect_s=0.1)) as running:
        seen = await watch(running)
        assert charged_to_the_limit(running) == 0
    assert seen.tries() == [(1, "LLM_UNAVAILABLE"), (2, "LLM_UNAVAILABLE")]


async def test_where_the_connection_is_refused_nothing_is_charged(make_model: MakeModel) -> None:
    async with serving(make_model(base_url="http://127.0.0.1:1/v1")) as running:
        seen = await watch(running)
        assert charged_to_the_limit(running) == 0
    assert seen.tries() == [(1, "LLM_UNAVAILABLE"), (2, "LLM_UNAVAILABLE")]


async def test_calls_that_share_an_id_are_two_calls(provider: FakeProvider, make_model: MakeModel) -> None:
    calls = [tool_call(index, "same", "echo", f'{{"text": "{index}"}}') for index in (0, 1)]
    provider.will(stream(*calls, finish("tool_calls"), usage()), stream(text("whole"), finish(), usage()))
    async with serving(make_model()) as running:
        seen = await watch(running)
    [first, second] = seen.of("tool_finished")
    assert len({first.tool_call_id, second.tool_call_id}) == 2
    assert seen.events[-1].completed.output == "whole"
    answers = [message for message in provider.requests[1].body["messages"] if message["role"] == "tool"]
    assert [answer["content"] for answer in answers] == ["0", "1"]

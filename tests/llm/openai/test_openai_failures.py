"""The OpenAI adapter: what it makes of providers that refuse, break off, stall or talk nonsense."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from agent_service.errors import LLMError
from agent_service.llm.base import Message, ModelRequest, Role
from agent_service.llm.openai.body.events import LINE_BYTES_MAX
from agent_service.llm.openai.errors import OUTCOMES
from agent_service.llm.openai.model import OpenAIModel
from agent_service.v1.task_pb2 import Usage
from tests.fakes.provider import (
    FakeProvider,
    Json,
    Reply,
    chunk,
    cut_stream,
    document,
    event,
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
from tests.llm.conftest import MakeModel
from tests.llm.observer import RecordingObserver

PROMPT = "the prompt's own words"
ASKED = ModelRequest([Message(Role.USER, PROMPT)])
NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


async def failure(provider: FakeProvider, model: OpenAIModel, reply: Reply) -> LLMError:
    provider.will(reply)
    with pytest.raises(LLMError) as raised:
        await model.generate(ASKED, RecordingObserver())
    return raised.value


def error(code: object = None, kind: object = None, message: str = "no") -> Json:
    return {"error": {"message": message, "type": kind, "code": code}}


# Refused.


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        (307, "LLM_UNAVAILABLE", False),
        (400, "LLM_REJECTED", False),
        (401, "LLM_AUTH", False),
        (402, "LLM_RATE_LIMITED", False),
        (403, "LLM_AUTH", False),
        (404, "MODEL_NOT_FOUND", False),
        (408, "LLM_TIMEOUT", True),
        (409, "LLM_UNAVAILABLE", True),
        (413, "LLM_REJECTED", False),
        (422, "LLM_REJECTED", False),
        (429, "LLM_RATE_LIMITED", True),
        (500, "LLM_UNAVAILABLE", True),
        (503, "LLM_UNAVAILABLE", True),
        (529, "LLM_UNAVAILABLE", True),
    ],
)
async def test_a_status_says_what_failed_and_whether_to_try_again(
    provider: FakeProvider, model: OpenAIModel, code: int, reason: str, retryable: bool
) -> None:
    elsewhere = {"location": "http://127.0.0.1:1/v1/chat/completions"} if code == 307 else {}
    refused = await failure(provider, model, status(code, error("some_code"), headers=elsewhere))
    assert (refused.reason_name, refused.retryable) == (reason, retryable)
    assert refused.message == f"the model provider answered {code} (some_code)"
    assert refused.usage is None
    assert len(provider.requests) == 1


async def test_a_quota_that_is_used_up_is_not_tried_again_whatever_the_headers_say(
    provider: FakeProvider, model: OpenAIModel
) -> None:
    reply = status(429, error("insufficient_quota"), headers={"x-should-retry": "true", "retry-after": "1"})
    refused = await failure(provider, model, reply)
    assert (refused.reason_name, refused.retryable) == ("LLM_RATE_LIMITED", False)


@pytest.mark.parametrize(("code", "told", "retryable"), [(400, "true", True), (500, "false", False), (500, "", True)])
async def test_x_should_retry_overrules_the_status(
    provider: FakeProvider, model: OpenAIModel, code: int, told: str, retryable: bool
) -> None:
    refused = await failure(provider, model, status(code, headers={"x-should-retry": told}))
    assert refused.retryable is retryable


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),
        ({"retry-after": "1e999"}, 86_400.0),
        ({"retry-after": "1700000012"}, 12.0),
        ({"retry-after": "1600000000"}, 0.0),
        ({"llm_provider-retry-after": "7"}, 7.0),
        ({"llm_provider-retry-after": "7", "retry-after": "3"}, 3.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
    ],
)
async def test_the_wait_that_a_provider_asks_for_is_told_in_seconds(
    provider: FakeProvider, make_model: MakeModel, headers: dict[str, str], wait_s: float | None
) -> None:
    refused = await failure(provider, make_model(unix_time=lambda: NOW), status(429, headers=headers))
    assert refused.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("body", "reason", "retryable"),
    [
        (error("server_error"), "LLM_UNAVAILABLE", True),
        (error(kind="rate_limit_error"), "LLM_RATE_LIMITED", True),
        (error("insufficient_quota"), "LLM_RATE_LIMITED", False),
        (error(502), "LLM_UNAVAILABLE", True),
        (error("429"), "LLM_RATE_LIMITED", True),
        (error(kind="invalid_request_error"), "LLM_REJECTED", False),
        (error("invalid_api_key"), "LLM_AUTH", False),
        ({"error": "overloaded"}, "LLM_UNAVAILABLE", True),
        ({"error": ["?"]}, "LLM_UNAVAILABLE", True),
    ],
)
async def test_an_error_inside_a_reply_is_told_like_a_status(
    provider: FakeProvider, model: OpenAIModel, body: Json, reason: str, retryable: bool
) -> None:
    for reply in (stream(body), document(body)):
        broken = await failure(provider, model, reply)
        assert (broken.reason_name, broken.retryable, broken.usage) == (reason, retryable, None)
        assert broken.message.startswith("the model provider reports an error in its reply")


async def test_no_word_of_a_provider_gets_into_the_message_but_codes(
    provider: FakeProvider, model: OpenAIModel
) -> None:
    echo = f"Incorrect API key provided: sk-test. You said: {PROMPT}"
    for reply in (
        status(401, error("sk-test", echo, echo)),
        stream(error("sk-test", echo, echo)),
        status(500, b"<h1>x"),
    ):
        refused = await failure(provider, model, reply)
        assert "sk-test" not in refused.message
        assert PROMPT not in refused.message
        assert "<" not in refused.message


# Broken off.


async def test_a_server_that_cannot_be_reached_was_sent_nothing(make_model: MakeModel) -> None:
    with pytest.raises(LLMError) as raised:
        await make_model(base_url="http://127.0.0.1:1/v1").generate(ASKED, RecordingObserver())
    assert (raised.value.reason_name, raised.value.retryable) == ("LLM_UNAVAILABLE", True)
    assert raised.value.usage is None


async def test_an_environment_that_lets_no_client_be_built_is_told(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")  # needs a package that is not installed
    with pytest.raises(LLMError) as raised:
        await make_model().generate(ASKED, RecordingObserver())
    assert (raised.value.reason_name, raised.value.retryable) == ("LLM_UNAVAILABLE", False)
    assert "ALL_PROXY" in raised.value.message


async def test_a_url_that_is_none_is_not_tried_again(make_model: MakeModel) -> None:
    with pytest.raises(LLMError) as raised:
        await make_model(base_url="http://host:port/v1").generate(ASKED, RecordingObserver())
    assert (raised.value.reason_name, raised.value.retryable) == ("LLM_UNAVAILABLE", False)


CALL_WITHOUT_NAME = tool_call(0, "a", arguments="{}")
BROKEN: dict[str, tuple[Reply, bool]] = {
    "hung up without a word": (hang_up, True),
    "cut in the middle": (cut_stream(text("Hel")), True),
    "ended without a finish reason and [DONE]": (stream(text("Hel"), done=False), True),
    "ended without a finish reason, with junk in it": (stream(text("Hel"), b"data: {\n\n"), True),
    "empty": (stream(done=False), True),
    "a document without choices": (document({}), True),
    "a document that is no JSON": (document(b"{"), True),
    "an event that is no JSON": (stream(b"data: {\n\n"), True),
    "an event that is no object": (stream(b"data: 1\n\n"), True),
    "half of a surrogate pair": (stream(b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n'), True),
    "choices that are no list": (stream({"choices": {"a": 1}}), True),
    "a choice that is no object": (stream({"choices": [1]}), True),
    "a delta that is no object": (stream({"choices": [{"delta": "a"}]}), True),
    "content that is no text": (stream(chunk({"content": 1})), True),
    "usage that is no object": (stream({"usage": [1], "choices": []}), True),
    "tool calls that are no list": (stream(chunk({"tool_calls": "a"})), True),
    "a tool call that is no object": (stream(chunk({"tool_calls": [1]})), True),
    "a tool call whose index is no number": (stream(chunk({"tool_calls": [{"index": []}]})), True),
    "a tool call without a name": (stream(CALL_WITHOUT_NAME, finish("tool_calls")), True),
    "a finish for tool calls without one": (stream(finish("tool_calls")), True),
    "finished by an error": (stream(text("Hel"), finish("error")), True),
    "a web page": (document(b"<html>", content_type="text/html"), True),
    "encoded as it is not": (stream(b"data: {}\n\n", headers={"content-encoding": "gzip"}), True),
    "a line without an end": (stream(b"data: " + b" " * LINE_BYTES_MAX), False),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_reply_is_a_provider_that_is_unavailable(
    provider: FakeProvider, model: OpenAIModel, name: str
) -> None:
    reply, retryable = BROKEN[name]
    broken = await failure(provider, model, reply)
    assert (broken.reason_name, broken.retryable) == ("LLM_UNAVAILABLE", retryable)
    assert broken.usage is not None
    assert broken.usage.input_tokens > 0


@pytest.mark.parametrize("before", [[], [usage(11, 1)]], ids=["not counted", "counted up to then"])
async def test_what_a_reply_had_written_before_it_broke_off_is_charged_at_an_estimate(
    provider: FakeProvider, model: OpenAIModel, before: list[Json]
) -> None:
    broken = await failure(provider, model, stream(*before, text("x" * 30), error("server_error")))
    body_bytes = int(provider.requests[0].headers["content-length"])
    assert broken.usage == Usage(input_tokens=-(-body_bytes // 3), output_tokens=10, estimated=True)


async def test_a_reply_that_broke_off_after_its_usage_is_charged_as_reported(
    provider: FakeProvider, model: OpenAIModel
) -> None:
    broken = await failure(provider, model, cut_stream(text("a"), finish(), usage(11, 7)))
    assert broken.usage == Usage(input_tokens=11, output_tokens=7)


# Stalled. These wait for real, for hundredths of a second: the timers are the event loop's.


@pytest.mark.parametrize(
    ("reply", "settings", "message"),
    [
        (hang, {"first_token_s": 0.2}, "the model wrote nothing within 0.2 s"),
        (
            hanging_stream(chunk({"role": "assistant"})),
            {"first_token_s": 0.2},
            "the model wrote nothing within 0.2 s",
        ),
        (
            slow_stream(b": still here\n\n", interval_s=0.01),
            {"first_token_s": 0.2},
            "the model wrote nothing within 0.2 s",
        ),
        (hanging_stream(text("a")), {"idle_s": 0.05}, "the model fell silent for 0.05 s"),
        (slow_stream(text("a"), b": x\n\n", interval_s=0.01), {"idle_s": 0.05}, "the model fell silent for 0.05 s"),
        (slow_stream(b"data: ", b" ", interval_s=0.01), {"total_s": 0.3}, "the model did not finish within 0.3 s"),
        (slow_stream(text("a"), interval_s=0.01), {"total_s": 0.3}, "the model did not finish within 0.3 s"),
    ],
    ids=["hangs", "hangs after the role", "comments only", "falls silent", "comments after text", "drips", "no end"],
)
async def test_a_model_that_keeps_us_waiting_times_out_and_its_connection_is_closed(
    provider: FakeProvider, make_model: MakeModel, reply: Reply, settings: dict[str, Any], message: str
) -> None:
    late = await failure(provider, make_model(**settings), reply)
    assert (late.reason_name, late.retryable, late.message) == ("LLM_TIMEOUT", True, message)
    assert late.usage is not None
    assert late.usage.estimated
    await provider.requests[0].client_gone.wait()


async def test_a_slow_model_that_keeps_writing_is_waited_for(provider: FakeProvider, make_model: MakeModel) -> None:
    pieces = [event(text("a"))] * 15
    provider.will(slow_stream(*pieces, event(finish()) + b"data: [DONE]\n\n", interval_s=0.03))
    reply = await make_model(idle_s=0.3, first_token_s=0.3).generate(ASKED, RecordingObserver())
    assert reply.text == "a" * 15


# The table.


def exceptions_of_the_client() -> Iterator[str]:
    """The exceptions of the modules that a request passes through, named as the table names them."""
    for module in ("openai", "openai._exceptions", "openai._base_client", "openai._response", "openai._streaming"):
        for cls in classes_of(module):
            if cls.__module__.startswith("openai"):
                yield f"openai.{cls.__name__}"
    for cls in classes_of("httpx2"):
        if cls.__module__.startswith("httpx2"):
            yield f"httpx2.{cls.__name__}"


def classes_of(module_name: str) -> list[type[BaseException]]:
    found = list(vars(importlib.import_module(module_name)).values())
    return [cls for cls in found if inspect.isclass(cls) and issubclass(cls, Exception)]


def test_every_exception_of_the_client_is_in_the_table_and_the_table_has_no_others() -> None:
    named = {name for name in OUTCOMES if name.startswith(("openai.", "httpx2."))}
    raised = set(exceptions_of_the_client())
    warnings = {name for name in raised if name.endswith("Warning")}
    assert raised - warnings == named


async def test_a_finish_that_comes_with_every_chunk_ends_no_stream_that_falls_silent(
    provider: FakeProvider, make_model: MakeModel, observer: RecordingObserver
) -> None:
    provider.will(hanging_stream(chunk({"content": "half "}, "stop"), chunk({"content": "an ans"}, "stop")))
    with pytest.raises(LLMError) as silent:
        await make_model(idle_s=0.2).generate(ModelRequest([Message(Role.USER, "hi")]), observer)
    assert silent.value.reason_name == "LLM_TIMEOUT"

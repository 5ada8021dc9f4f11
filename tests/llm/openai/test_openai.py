"""The OpenAI adapter: what it sends, and the replies that it makes of what comes back."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from typing import Any

import openai
import pytest

from agent_service.errors import ConfigError
from agent_service.llm.base import Message, ModelReply, ModelRequest, Role, ToolSpec
from agent_service.llm.openai import endpoint as openai_endpoint
from agent_service.llm.openai.model import OpenAIModel
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall
from tests.fakes.provider import (
    FakeProvider,
    chunk,
    document,
    event,
    finish,
    hang,
    hanging_stream,
    status,
    stream,
    text,
    usage,
)
from tests.harness import SOON_S
from tests.llm.conftest import MakeModel
from tests.llm.observer import RecordingObserver

HELLO = ModelRequest([Message(Role.USER, "hello")])
STOP = FinishReason.FINISH_REASON_STOP


# What is sent.


async def test_a_request_carries_the_conversation_the_tools_and_the_models_settings(
    provider: FakeProvider, make_model: MakeModel, observer: RecordingObserver
) -> None:
    provider.will(stream(text("ok"), finish()))
    asked = ToolCall(id="call_1", name="add", arguments_json='{"a": 1,  "b":2}')
    conversation = [
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "add 1 and 2"),
        Message(Role.ASSISTANT, "", [asked]),
        Message(Role.TOOL, "3", tool_call_id="call_1", tool_name="add"),
    ]
    tool = ToolSpec("add", "Adds.", '{"type": "object", "properties": {"a": {}}}')

    await make_model(temperature=0.2, max_tokens=64).generate(ModelRequest(conversation, [tool]), observer)

    assert provider.requests[0].path == "/v1/chat/completions"
    assert provider.requests[0].headers["authorization"] == "Bearer sk-test"
    function = {"name": "add", "arguments": '{"a": 1,  "b":2}'}
    assert provider.requests[0].body == {
        "model": "gpt-4",
        "temperature": 0.2,
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "add 1 and 2"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "add",
                    "description": "Adds.",
                    "parameters": {"type": "object", "properties": {"a": {}}},
                },
            }
        ],
    }


async def test_settings_and_tools_that_are_not_there_are_not_sent(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(stream(text("ok"), finish()))
    await model.generate(HELLO, observer)
    assert set(provider.requests[0].body) == {"model", "messages", "stream", "stream_options"}


async def test_the_most_tokens_are_told_by_the_name_that_the_provider_knows(
    provider: FakeProvider, make_model: MakeModel, observer: RecordingObserver
) -> None:
    provider.will(stream(text("ok"), finish()))
    await make_model(max_tokens=64, max_tokens_parameter="max_completion_tokens").generate(HELLO, observer)
    assert provider.requests[0].body["max_completion_tokens"] == 64
    assert "max_tokens" not in provider.requests[0].body


async def test_an_empty_key_sends_no_authorization_and_the_environment_adds_nothing(
    provider: FakeProvider, make_model: MakeModel, observer: RecordingObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "leaked")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://leaked.invalid")
    provider.will(stream(text("ok"), finish()))
    await make_model(api_key="").generate(HELLO, observer)
    assert "authorization" not in provider.requests[0].headers
    assert "leaked" not in str(provider.requests[0].headers)


@pytest.mark.parametrize("settings", [{"api_key": "sk-\n1"}, {"api_key": "ключ"}, {"base_url": "ftp://host/v1"}])
def test_a_key_or_a_url_that_can_be_none_is_refused_at_once(settings: dict[str, Any]) -> None:
    given = {"api_key": "sk-test", "base_url": "http://host/v1", "headers": {}, **settings}
    with pytest.raises(ConfigError):
        openai_endpoint.openai_endpoint(**given)
    with pytest.raises(ConfigError):
        openai_endpoint.azure_endpoint(**given, deployment="d", api_version="2024-10-21")


# What comes back.


async def test_a_streamed_reply_is_shown_as_it_comes_and_returned_whole(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(stream(chunk({"role": "assistant", "content": ""}), text("Hel"), text("lo ✓"), finish(), usage(9, 3)))
    reply = await model.generate(HELLO, observer)
    assert reply == ModelReply("Hello ✓", [], STOP, Usage(input_tokens=9, output_tokens=3), "fake-1")
    assert "".join(observer.texts) == "Hello ✓"  # pieces that arrive at once are shown at once


async def test_text_is_shown_before_the_reply_is_over(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(hanging_stream(text("Hel")))
    task = asyncio.create_task(model.generate(HELLO, observer))
    async with asyncio.timeout(SOON_S):
        await observer.wrote.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_a_call_closes_its_connection_and_tells_nothing(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(hanging_stream(text("Hel")))
    task = asyncio.create_task(model.generate(HELLO, observer))
    request = await provider.next_request()
    await observer.wrote.wait()
    task.cancel()
    async with asyncio.timeout(SOON_S):
        await request.client_gone.wait()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert observer.told == [("text", "Hel")]


async def test_cancelling_a_call_that_has_no_answer_yet_closes_its_connection(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(hang)
    task = asyncio.create_task(model.generate(HELLO, observer))
    request = await provider.next_request()
    task.cancel()
    async with asyncio.timeout(SOON_S):
        await request.client_gone.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reply_in_one_json_document_is_as_good_as_a_stream(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    message = {"role": "assistant", "content": "Hello"}
    counts = {"prompt_tokens": 9, "completion_tokens": 3}
    provider.will(document({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": counts}))
    reply = await model.generate(HELLO, observer)
    assert reply == ModelReply("Hello", [], STOP, Usage(input_tokens=9, output_tokens=3), "m")
    assert observer.texts == ["Hello"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", STOP),
        ("length", FinishReason.FINISH_REASON_LENGTH),
        ("content_filter", FinishReason.FINISH_REASON_CONTENT_FILTER),
        ("MAX_TOKENS", FinishReason.FINISH_REASON_LENGTH),
        ("endTurn", STOP),
        ("because", FinishReason.FINISH_REASON_UNSPECIFIED),
    ],
)
async def test_the_finish_reason_is_told_in_our_terms(
    provider: FakeProvider,
    model: OpenAIModel,
    observer: RecordingObserver,
    reason: str,
    expected: FinishReason.ValueType,
) -> None:
    provider.will(stream(text("a"), finish(reason)))
    assert (await model.generate(HELLO, observer)).finish_reason == expected


async def test_the_words_of_a_refusal_are_the_replys_text(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(stream(chunk({"refusal": "I can't "}), chunk({"refusal": "do that."}), finish()))
    assert (await model.generate(HELLO, observer)).text == "I can't do that."


async def test_content_in_parts_is_read_and_reasoning_is_not_part_of_the_text(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes"}]
    provider.will(stream(chunk({"reasoning_content": "Let me see"}), chunk({"content": parts}), finish()))
    assert (await model.generate(HELLO, observer)).text == "Yes"


async def test_chunks_without_choices_other_choices_and_comments_are_passed_over(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    fields = b": OPENROUTER PROCESSING\n\nevent: message\nid: 1\nretry: 5\n"
    provider.will(stream(fields, {"choices": []}, {"id": "x"}, other, event(text("yes")), finish()))
    assert (await model.generate(HELLO, observer)).text == "yes"


# Usage.


async def test_cached_and_reasoning_tokens_are_told_apart(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 5}}
    provider.will(stream(text("a"), finish(), usage(50, 8, **details)))
    used = (await model.generate(HELLO, observer)).usage
    assert used == Usage(input_tokens=50, cached_input_tokens=40, output_tokens=8, reasoning_tokens=5)


async def test_reasoning_that_only_the_total_has_is_output_too(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    counts = {"total_tokens": 158, "completion_tokens_details": {"reasoning_tokens": 100}}
    provider.will(stream(text("a"), finish(), usage(50, 8, **counts)))
    used = (await model.generate(HELLO, observer)).usage
    assert (used.output_tokens, used.reasoning_tokens) == (108, 100)


@pytest.mark.parametrize(
    "last",
    [
        [],
        [usage(0, 0)],
        [usage(None, None)],
        [usage("9", -1)],
        [usage(10**15, 1)],
        [{"choices": [], "usage": {}}],
    ],
    ids=["missing", "zero", "null", "of other types", "too large", "empty"],
)
async def test_usage_that_is_missing_or_senseless_is_estimated_from_bytes(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver, last: list[dict[str, Any]]
) -> None:
    provider.will(stream(text("x" * 30), finish(), *last))
    used = (await model.generate(HELLO, observer)).usage
    body_bytes = int(provider.requests[0].headers["content-length"])
    assert used == Usage(input_tokens=-(-body_bytes // 3), output_tokens=10, estimated=True)


# The connection.


async def test_connections_are_used_again_after_replies_and_refusals(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    reply = stream(text("a"), finish())
    provider.will(reply, status(500, {"error": {}}), reply)
    await model.generate(HELLO, observer)
    with pytest.raises(Exception, match="500"):
        await model.generate(HELLO, observer)
    await model.generate(HELLO, observer)
    assert provider.connected == 1


async def test_a_reply_that_is_whole_does_not_wait_for_a_server_that_leaves_the_body_open(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    provider.will(hanging_stream(text("a"), finish(), b"data: [DONE]\n\n"))
    async with asyncio.timeout(SOON_S):
        assert (await model.generate(HELLO, observer)).text == "a"


async def test_a_compressed_reply_is_read(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    body = gzip.compress(event(text("packed")) + event(finish()) + b"data: [DONE]\n\n")
    provider.will(stream(body, done=False, headers={"content-encoding": "gzip"}))
    assert (await model.generate(HELLO, observer)).text == "packed"


async def test_requests_side_by_side_build_one_client(
    provider: FakeProvider, model: OpenAIModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[object] = []

    class Counted(openai.AsyncOpenAI):
        def __init__(self, **settings: Any) -> None:
            built.append(settings)
            super().__init__(**settings)

    monkeypatch.setattr(openai, "AsyncOpenAI", Counted)
    provider.will(*[stream(text("a"), finish())] * 4)
    await asyncio.gather(*(model.generate(HELLO, RecordingObserver()) for _ in range(4)))
    assert len(built) == 1


def test_importing_the_adapter_imports_neither_openai_nor_its_http_client() -> None:
    names = "('openai', 'httpx2', 'anyio')"
    code = f"import sys, agent_service.llm.openai.model; print([m for m in {names} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

"""The strict provider itself: OpenAI's own package reads what it sends, and it refuses what the real ones do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import Field, TypeAdapter

from tests.fakes import responses
from tests.fakes.strict.model import CHAT, RESPONSES
from tests.fakes.strict.server import MODELS, StrictProvider, strict_process

Json = dict[str, Any]

NOTE: Json = {
    "name": "note",
    "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
}
CHAT_TOOLS: list[Json] = [{"type": "function", "function": NOTE}]
TOOLS: list[Json] = [{"type": "function", "strict": False, **NOTE}]
EVENT: TypeAdapter[Any] = TypeAdapter(Annotated[ResponseStreamEvent, Field(discriminator="type")])
CHAT_MODELS = [name for name, model in MODELS.items() if CHAT in model.apis and not model.needs_effort_none]
RESPONSES_MODELS = [name for name, model in MODELS.items() if RESPONSES in model.apis]


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StrictProvider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with StrictProvider() as provider:
        yield provider


@pytest.fixture
async def client(provider: StrictProvider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0) as client:
        yield client


# As a caller that does everything right.


def asked(model: str, items: list[Json], **more: object) -> Json:
    """A request of the Responses API that is as it should be."""
    request: Json = {"model": model, "input": items, "store": False, "tools": TOOLS, "include": []}
    if MODELS[model].reasons:
        request["include"] = ["reasoning.encrypted_content"]
    return request | more


async def played(client: AsyncOpenAI, model: str, text: str, **more: object) -> list[Json]:
    """The items of a whole task over the Responses API."""
    items: list[Json] = [{"role": "user", "content": text}]
    while True:
        async with client.responses.stream(**asked(model, items, **more)) as stream:
            response = await stream.get_final_response()
        output: list[Any] = [item.to_dict() for item in response.output]
        for item in output:  # the package adds what it has parsed
            for part in item.get("content") or ():
                part.pop("parsed", None)
            item.pop("parsed_arguments", None)
        items += output
        calls = [item for item in output if item["type"] == "function_call"]
        if not calls:
            return items
        items += [{"type": "function_call_output", "call_id": call["call_id"], "output": "done"} for call in calls]


async def chatted(client: AsyncOpenAI, model: str, text: str) -> list[Json]:
    """The messages of a whole task over Chat Completions, read in one piece."""
    messages: list[Json] = [{"role": "user", "content": text}]
    while True:
        body = {"model": model, "messages": messages, "tools": CHAT_TOOLS}
        reply: Any = await client.post("/chat/completions", cast_to=object, body=body)
        message = reply["choices"][0]["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            return messages
        message["content"] = ""
        calls = message["tool_calls"]
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in calls]


@pytest.mark.parametrize("model", RESPONSES_MODELS)
async def test_a_task_over_responses_is_played_to_its_end(
    client: AsyncOpenAI, provider: StrictProvider, model: str
) -> None:
    items = await played(client, model, "3 turns of 2 calls")
    assert items[-1]["content"][0]["text"] == "fine: " + ", ".join(["done"] * 6)
    assert [json.loads(item["arguments"])["number"] for item in items if "arguments" in item] == [1, 2, 3, 4, 5, 6]
    assert provider.carried == (6 if MODELS[model].reasons else 0)  # one reasoning, then two, then three
    assert not provider.refusals


@pytest.mark.parametrize("model", CHAT_MODELS)
async def test_a_task_over_chat_completions_is_played_to_its_end(
    client: AsyncOpenAI, provider: StrictProvider, model: str
) -> None:
    messages = await chatted(client, model, "2 turns")
    assert messages[-1]["content"] == "fine: done, done"
    assert provider.carried == (3 if MODELS[model].name in ("deepseek", "gemini", "openrouter") else 0)
    assert not provider.refusals


@pytest.mark.parametrize("model", RESPONSES_MODELS)
async def test_every_event_is_one_that_openais_package_knows(provider: StrictProvider, model: str) -> None:
    summary: Json = {"reasoning": {"summary": "auto"}} if MODELS[model].reasons else {}
    for text in ("1 turn", "no tools"):
        body = asked(model, [{"role": "user", "content": text}], stream=True, **summary)
        async with httpx2.AsyncClient() as client:
            reply = await client.post(f"{provider.base_url}/responses", json=body)
        events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
        for event in events:
            EVENT.validate_python(event)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        Response.model_validate(events[-1]["response"])


@pytest.mark.parametrize("model", ["plain-1", "gpt-5-strict", "mistral-large"])
async def test_every_chunk_is_one_that_openais_package_knows(provider: StrictProvider, model: str) -> None:
    for text in ("1 turn", "no tools"):
        body = {"model": model, "messages": [{"role": "user", "content": text}], "tools": CHAT_TOOLS, "stream": True}
        async with httpx2.AsyncClient() as client:
            reply = await client.post(f"{provider.base_url}/chat/completions", json=body)
        chunks = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
        assert chunks.pop() == "[DONE]"
        for chunk in chunks:
            ChatCompletionChunk.model_validate_json(chunk)


def test_documents_of_every_status_are_ones_that_openais_package_knows() -> None:
    for document in (
        responses.document(responses.reasoning(summary=["thought"]), responses.refusal()),
        responses.document(status="failed", **responses.failed()),
        responses.document(responses.function_call(), status="incomplete", **responses.incomplete()),
    ):
        Response.model_validate(document)
    EVENT.validate_python(responses.error())


# What it refuses.

USER = {"role": "user", "content": "2 turns"}


def call_of(call_id: str = "call_a", name: str = "note", arguments: str = "{}", **more: object) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def called(*calls: Json, content: object = "", **more: object) -> Json:
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


RESULT = {"role": "tool", "tool_call_id": "call_a", "content": "done"}

REFUSED_BY_CHAT: dict[str, tuple[str, Json]] = {
    "tools beside an effort": ("gpt-5.6-strict", {"tools": CHAT_TOOLS}),
    "a low effort beside tools": ("gpt-5.6-strict", {"tools": CHAT_TOOLS, "reasoning_effort": "low"}),
    "temperature": ("gpt-5-strict", {"temperature": 0.2}),
    "max_tokens": ("gpt-5-strict", {"max_tokens": 100}),
    "a field unknown": ("gpt-4.1-strict", {"reasoning": {"effort": "low"}}),
    "a field of OpenAI's": ("mistral-large", {"max_completion_tokens": 100}),
    "null": ("plain-1", {"temperature": None}),
    "no tools in a list": ("plain-1", {"tools": []}),
    "content null": ("plain-1", {"messages": [USER, called(call_of(), content=None), RESULT]}),
    "an empty message": ("plain-1", {"messages": [USER, {"role": "assistant", "content": ""}, USER]}),
    "broken arguments": ("plain-1", {"messages": [USER, called(call_of(arguments='{"a"')), RESULT]}),
    "arguments that are a list": ("plain-1", {"messages": [USER, called(call_of(arguments="[]")), RESULT]}),
    "a name with a dot": ("plain-1", {"messages": [USER, called(call_of(name="a.b")), RESULT]}),
    "a name too long": ("plain-1", {"messages": [USER, called(call_of(name="a" * 65)), RESULT]}),
    "a result without its call": ("plain-1", {"messages": [USER, RESULT]}),
    "a call without its result": ("plain-1", {"messages": [USER, called(call_of()), USER]}),
    "an id of another's": ("mistral-large", {"messages": [USER, called(call_of()), RESULT]}),
    "reasoning of another's": ("plain-1", {"messages": [USER, called(call_of(), reasoning_content="hm"), RESULT]}),
    "a signature of another's": ("gemini-3-pro", {"messages": [USER, called(call_of(extra_content={})), RESULT]}),
}


@pytest.mark.parametrize("case", REFUSED_BY_CHAT)
async def test_chat_completions_refuse(client: AsyncOpenAI, case: str) -> None:
    model, body = REFUSED_BY_CHAT[case]
    with pytest.raises(BadRequestError) as caught:
        await client.post("/chat/completions", cast_to=object, body={"model": model, "messages": [USER], **body})
    assert {"message", "type", "param", "code"} == set(caught.value.body)  # type: ignore[call-overload]


@pytest.mark.parametrize("model", ["deepseek-v4", "gemini-3-pro", "openrouter-kimi"])
async def test_chat_completions_refuse_calls_without_what_came_with_them(client: AsyncOpenAI, model: str) -> None:
    messages = (await chatted(client, model, "1 turn"))[:3]
    for name in ("reasoning_content", "reasoning", "reasoning_details"):
        messages[1].pop(name, None)
    for call in messages[1]["tool_calls"]:
        call.pop("extra_content", None)
    with pytest.raises(BadRequestError):
        await client.post("/chat/completions", cast_to=object, body={"model": model, "messages": messages})


REFUSED_BY_RESPONSES: dict[str, tuple[str, Json]] = {
    "temperature": ("gpt-5.6-strict", {"temperature": 0.2}),
    "a parameter unknown": ("gpt-5.6-strict", {"messages": []}),
    "max_tokens": ("gpt-5.6-strict", {"max_tokens": 100}),
    "too few tokens": ("gpt-5.6-strict", {"max_output_tokens": 5}),
    "to be stored": ("gpt-5.6-strict", {"store": True}),
    "a response before": ("gpt-5.6-strict", {"previous_response_id": "resp_1"}),
    "an effort without reasoning": ("gpt-4.1-strict", {"reasoning": {"effort": "low"}}),
    "encrypted content without reasoning": ("gpt-4.1-strict", {"include": ["reasoning.encrypted_content"]}),
    "a schema called strict that is not": ("gpt-5.6-strict", {"tools": [TOOLS[0] | {"strict": True}]}),
    "a tool as Chat Completions has it": ("gpt-5.6-strict", {"tools": CHAT_TOOLS}),
    "an empty message": ("gpt-5.6-strict", {"input": [{"role": "user", "content": ""}]}),
    "a result without its call": (
        "gpt-5.6-strict",
        {"input": [USER, {"type": "function_call_output", "call_id": "call_a", "output": "done"}]},
    ),
    "a call without its result": (
        "gpt-5.6-strict",
        {"input": [USER, {"type": "function_call", "call_id": "call_a", "name": "note", "arguments": "{}"}]},
    ),
    "broken arguments": (
        "gpt-5.6-strict",
        {"input": [USER, {"type": "function_call", "call_id": "call_a", "name": "note", "arguments": "{"}]},
    ),
    "a call id too long": (
        "gpt-5.6-strict",
        {"input": [USER, {"type": "function_call", "call_id": "a" * 65, "name": "note", "arguments": "{}"}]},
    ),
}


@pytest.mark.parametrize("case", REFUSED_BY_RESPONSES)
async def test_responses_refuse(client: AsyncOpenAI, case: str) -> None:
    model, body = REFUSED_BY_RESPONSES[case]
    with pytest.raises(BadRequestError):
        await client.post("/responses", cast_to=object, body=asked(model, [USER], **body))


def altered(items: list[Json]) -> list[Json]:
    return [items[0], items[1] | {"encrypted_content": items[1]["encrypted_content"][:-1] + "x"}, *items[2:]]


def foreign(items: list[Json]) -> list[Json]:
    return [items[0], items[1] | {"encrypted_content": items[4]["encrypted_content"]}, *items[2:]]


BROKEN_INPUT: dict[str, Callable[[list[Json]], list[Json]]] = {
    "without the reasoning": lambda items: [items[0], *items[2:]],
    "without the reasoning and the id": lambda items: [
        items[0],
        {name: value for name, value in items[2].items() if name != "id"},
        *items[3:],
    ],
    "without the call": lambda items: [items[0], items[1], *items[4:]],
    "without encrypted content": lambda items: [items[0], items[1] | {"encrypted_content": None}, *items[2:]],
    "altered": altered,
    "of another turn": foreign,
    "out of order": lambda items: [items[0], items[2], items[1], *items[3:]],
    "repeated": lambda items: [*items[:4], *items[1:]],
    "with another's arguments": lambda items: [*items[:2], items[2] | {"arguments": '{"number":9}'}, *items[3:]],
    "with an id unknown": lambda items: [*items[:2], items[2] | {"id": "fc_unknown"}, *items[3:]],
    "without a field": lambda items: [*items[:-1], {k: v for k, v in items[-1].items() if k != "phase"}],
}


@pytest.mark.parametrize("case", BROKEN_INPUT)
async def test_responses_refuse_items_that_do_not_come_back_as_they_were(client: AsyncOpenAI, case: str) -> None:
    items = await played(client, "gpt-5.6-strict", "2 turns")
    with pytest.raises((BadRequestError, NotFoundError)) as caught:
        await client.responses.create(**asked("gpt-5.6-strict", [*BROKEN_INPUT[case](items), USER]))
    is_encrypted = case in ("altered", "of another turn")
    assert (caught.value.code == "invalid_encrypted_content") == is_encrypted


async def test_responses_refuse_what_was_encrypted_with_a_key_that_is_gone(
    client: AsyncOpenAI, provider: StrictProvider
) -> None:
    items = await played(client, "gpt-5.6-strict", "1 turn")
    provider.change_key()
    with pytest.raises(BadRequestError) as caught:
        await client.responses.create(**asked("gpt-5.6-strict", [*items, USER]))
    assert caught.value.code == "invalid_encrypted_content"
    plain = [{name: item[name] for name in item if name != "id"} for item in items if item.get("type") != "reasoning"]
    await client.responses.create(**asked("gpt-5.6-strict", plain[:-1]))


async def test_responses_refuse_the_reasoning_of_another_model(client: AsyncOpenAI) -> None:
    items = await played(client, "gpt-5-strict", "1 turn")
    with pytest.raises(BadRequestError) as caught:
        await client.responses.create(**asked("gpt-5.6-strict", items))
    assert caught.value.code == "invalid_encrypted_content"


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_model_that_is_gone_is_not_found(client: AsyncOpenAI, path: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.post(path, cast_to=object, body={"model": "gpt-3-strict"})
    assert caught.value.code == "model_not_found"


async def test_it_runs_as_a_process_and_tells_when_a_model_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with strict_process() as base_url, AsyncOpenAI(base_url=base_url, api_key="sk-test") as client:
        models = {model.id: model.to_dict() async for model in client.models.list()}
        assert models["gpt-4.1-strict"]["shutdown_date"] == "2027-01-15"
        assert (await played(client, "gpt-5.6-strict", "1 turn"))[-1]["content"][0]["text"] == "fine: done"

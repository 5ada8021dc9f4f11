"""The Responses API: what is sent, and what of a reply goes back with the next request."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agent_service.errors import LLMError
from agent_service.llm.base import (
    PROVIDER_STATE_BYTES_MAX,
    Capabilities,
    Message,
    ModelReply,
    ModelRequest,
    Role,
    ToolSpec,
)
from agent_service.llm.openai.model import OpenAIModel
from agent_service.llm.openai.request_settings import Api, PassBack
from agent_service.v1.tool_pb2 import ToolCall
from tests.fakes.provider import FakeProvider, Json, status
from tests.fakes.responses import document, events, function_call, message, reasoning, stream
from tests.llm.conftest import MakeModel
from tests.llm.observer import RecordingObserver

ADD = ToolSpec("add", "Adds.", '{"type":"object","properties":{"a":{}}}')
GO = Message(Role.USER, "go")
FINE = stream(*events(message(text="fine")))
ITEMS = (
    reasoning("rs_1", "locked-1", summary=["Think."]),
    message("msg_1", "Let me see.", phase="commentary"),
    function_call("fc_1", "call_1", "add", '{"a": 1}'),
    reasoning("rs_2", "locked-2"),
    function_call("fc_2", "call_2", "add", '{"a": 2}'),
)
SCHEMA = '{"additionalProperties":false,"properties":{"n":{"type":"number"}},"required":["n"],"type":"object"}'


@pytest.fixture
def make(make_model: MakeModel) -> MakeModel:
    return lambda **settings: make_model(api=Api.RESPONSES, **settings)


def said(reply: ModelReply, **changed: Any) -> list[Message]:
    """A reply as it stands in the conversation, with the results of its calls."""
    given = {"model": "", "provider_state": reply.provider_state, **changed}
    results = [Message(Role.TOOL, f"got {call.id}", tool_call_id=call.id) for call in reply.tool_calls]
    return [Message(Role.ASSISTANT, reply.text, reply.tool_calls, **given), *results]


async def replied(provider: FakeProvider, model: OpenAIModel, *items: Json) -> ModelReply:
    provider.will(stream(*events(*items)))
    return await model.generate(ModelRequest([GO], [ADD]), RecordingObserver())


async def sent_after(provider: FakeProvider, model: OpenAIModel, *messages: Message) -> list[Json]:
    """The input that is sent for a conversation."""
    provider.will(FINE)
    await model.generate(ModelRequest([GO, *messages], [ADD]), RecordingObserver())
    found: list[Json] = provider.requests[-1].body["input"]
    return found


async def test_a_request_holds_the_whole_conversation_and_keeps_nothing_there(
    provider: FakeProvider, make: MakeModel
) -> None:
    provider.will(FINE)
    conversation = [Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "add 1")]
    model = make(model_id="gpt-9", max_tokens=64, effort="low", summary="auto", extra_body={"service_tier": "flex"})
    await model.generate(ModelRequest(conversation, [ADD], cache_key="k1"), RecordingObserver())

    request = provider.requests[0]
    assert request.path == "/v1/responses"
    assert request.body == {
        "model": "gpt-9",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 64,
        "reasoning": {"effort": "low", "summary": "auto"},
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "add 1"}],
        "tools": [
            {
                "type": "function",
                "name": "add",
                "description": "Adds.",
                "parameters": {"type": "object", "properties": {"a": {}}},
                "strict": False,
            }
        ],
        "parallel_tool_calls": True,
        "prompt_cache_key": "k1",
        "service_tier": "flex",
    }


async def test_what_is_not_set_is_not_sent(provider: FakeProvider, make: MakeModel) -> None:
    provider.will(FINE)
    await make(model_id="m", encrypted_reasoning=False).generate(ModelRequest([GO]), RecordingObserver())
    assert provider.requests[0].body.keys() == {"model", "stream", "store", "input"}


async def test_an_answers_schema_is_its_text_format(provider: FakeProvider, make: MakeModel) -> None:
    provider.will(FINE)
    model = make(capabilities=Capabilities(json_schema=True))
    await model.generate(ModelRequest([GO], output_schema_json=SCHEMA), RecordingObserver())
    schema = orjson.loads(SCHEMA)
    assert provider.requests[0].body["text"] == {
        "format": {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}
    }


async def test_the_items_of_a_reply_go_back_as_they_came_with_the_results_behind_them(
    provider: FakeProvider, make: MakeModel
) -> None:
    model = make()
    reply = await replied(provider, model, *ITEMS)
    assert reply.text == "Let me see."

    results = [
        {"type": "function_call_output", "call_id": call_id, "output": f"got {call_id}"}
        for call_id in ("call_1", "call_2")
    ]
    assert await sent_after(provider, model, *said(reply)) == [{"role": "user", "content": "go"}, *ITEMS, *results]


async def test_a_call_that_was_given_another_id_answers_to_its_own_on_the_wire(
    provider: FakeProvider, make: MakeModel
) -> None:
    model = make()
    reply = await replied(provider, model, reasoning(), function_call("fc_1", "call_1", "add"))
    reply.tool_calls[0].id = "call_2_0"  # the task has had a call_1 before

    sent = await sent_after(provider, model, *said(reply))
    assert [item.get("call_id") for item in sent[2:]] == ["call_1", "call_1"]


PLAIN = [
    {"role": "assistant", "content": "Let me see."},
    {"type": "function_call", "name": "add", "arguments": '{"a": 1}'},
    {"type": "function_call", "name": "add", "arguments": '{"a": 2}'},
]


@pytest.mark.parametrize("other", ["another model", "another provider", "told not to", "nothing kept"])
async def test_reasoning_goes_to_nobody_else(provider: FakeProvider, make: MakeModel, other: str) -> None:
    reply = await replied(provider, make(), *ITEMS)
    async with FakeProvider() as elsewhere:
        asked = elsewhere if other == "another provider" else provider
        model = make(
            model_id="other" if other == "another model" else "gpt-4",
            base_url=asked.base_url,
            pass_back=PassBack.NEVER if other == "told not to" else PassBack.AUTO,
        )
        state = b"" if other == "nothing kept" else reply.provider_state
        sent = await sent_after(asked, model, *said(reply, provider_state=state, model="smart"))

    calls = [item["call_id"] for item in sent if item.get("type") == "function_call"]
    assert [item["call_id"] for item in sent if item.get("type") == "function_call_output"] == calls
    assert all(len(call) == 9 and call.isalnum() for call in calls)
    assert [{k: v for k, v in item.items() if k != "call_id"} for item in sent[1:4]] == PLAIN
    assert "locked" not in orjson.dumps(sent).decode()


REFUSALS: dict[str, dict[str, str]] = {
    "OpenAI": {"code": "invalid_encrypted_content", "type": "invalid_request_error", "message": "no"},
    "a gateway": {
        "code": "400",
        "message": "OpenAIException - The encrypted content for item rs_1 could not be verified.",
    },
}


@pytest.mark.parametrize("by", REFUSALS)
async def test_a_state_that_the_provider_refuses_is_left_out_from_then_on(
    provider: FakeProvider, make: MakeModel, by: str
) -> None:
    model = make()
    reply = await replied(provider, model, *ITEMS)
    request = ModelRequest([GO, *said(reply)], [ADD])
    refusal = {"error": REFUSALS[by]}
    provider.will(status(400, refusal), FINE, status(400, refusal))

    with pytest.raises(LLMError) as refused:
        await model.generate(request, RecordingObserver())
    assert refused.value.retryable
    assert (await model.generate(request, RecordingObserver())).text == "fine"
    assert b"locked" not in orjson.dumps(provider.requests[-1].body)
    with pytest.raises(LLMError) as refused:  # of what is no longer sent
        await model.generate(request, RecordingObserver())
    assert not refused.value.retryable


async def test_a_state_that_is_too_large_is_dropped_and_told(provider: FakeProvider, make: MakeModel) -> None:
    model = make()
    reply = await replied(provider, model, reasoning("rs_1", "x" * PROVIDER_STATE_BYTES_MAX), function_call())
    assert reply.provider_state == b""
    assert reply.remarks == {"provider_state": "too large, dropped"}


async def test_items_go_back_without_nulls(provider: FakeProvider, make: MakeModel) -> None:
    model = make()
    thought = {**reasoning("rs_1", "locked"), "summary": None, "status": None, "content": None}
    items = (message("msg_1", "Let me see.") | {"phase": None}, thought, function_call())
    provider.will(status(200, document(*items)))
    reply = await model.generate(ModelRequest([GO], [ADD]), RecordingObserver())
    said_text, thought_again, _ = (await sent_after(provider, model, *said(reply)))[1:4]
    assert thought_again == {"id": "rs_1", "type": "reasoning", "encrypted_content": "locked", "summary": []}
    assert "phase" not in said_text


async def test_reasoning_that_is_an_id_alone_stays_out_together_with_the_ids_of_its_reply(
    provider: FakeProvider, make: MakeModel
) -> None:
    model = make()
    for encrypted in (None, ""):
        reply = await replied(provider, model, reasoning("rs_1", encrypted), function_call("fc_1", "call_1", "add"))
        sent = await sent_after(provider, model, *said(reply))
        assert sent[1] == {"type": "function_call", "call_id": sent[2]["call_id"], "name": "add", "arguments": "{}"}


async def test_no_two_calls_of_a_request_have_the_same_id(provider: FakeProvider, make: MakeModel) -> None:
    model = make()
    turns: list[Message] = []
    for number in range(2):
        reply = await replied(provider, model, reasoning(f"rs_{number}"), function_call("fc_1", "call_1", "add"))
        reply.tool_calls[0].id = f"call_{number}_0"
        turns += said(reply)
    sent = await sent_after(provider, model, *turns)
    called = [item["call_id"] for item in sent if item.get("type") == "function_call"]
    assert [item["call_id"] for item in sent if item.get("type") == "function_call_output"] == called
    assert len(set(called)) == 2


async def test_a_plain_reply_has_no_state(provider: FakeProvider, make: MakeModel) -> None:
    reply = await replied(provider, make(), message(text="fine"))
    assert reply.provider_state == b""


async def test_summaries_are_shown_where_they_are_asked_for(provider: FakeProvider, make: MakeModel) -> None:
    for summary, told in (("auto", "First.\n\nThen."), (None, "")):
        observer = RecordingObserver()
        provider.will(stream(*events(reasoning(summary=["First.", "Then."]), message(text="fine"))))
        await make(summary=summary).generate(ModelRequest([GO]), observer)
        assert "".join(str(entry[1]) for entry in observer.told if entry[0] == "reasoning") == told


async def test_what_models_break_in_a_conversation_is_sent_well_formed(provider: FakeProvider, make: MakeModel) -> None:
    calls = [ToolCall(id="c.1", name="files.read", arguments_json='{"a'), ToolCall(id="c2", name="n" * 80)]
    broken = Message(Role.ASSISTANT, "", calls, model="other")
    results = [Message(Role.TOOL, "no", tool_call_id=call.id) for call in calls]
    sent = await sent_after(provider, make(), broken, *results, Message(Role.ASSISTANT, " "), Message(Role.USER, "so?"))

    assert [(item["name"], item["arguments"]) for item in sent if item.get("type") == "function_call"] == [
        ("files_read", "{}"),
        ("n" * 64, "{}"),
    ]
    assert sent[-1] == {"role": "user", "content": "so?"}
    assert len(sent) == 6


TOLD = {"temperature": "config.yaml:4 models.smart.temperature", "model": "config.yaml:3 models.smart.model_id"}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Unsupported parameter", "param": "temperature", "code": "unsupported_parameter"}},
        {"error": {"message": "'temperature' is not supported with this model.", "type": "invalid_request_error"}},
        {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]},
    ],
)
async def test_a_refused_parameter_is_told_by_where_it_is_set_and_logged_once(
    provider: FakeProvider, make: MakeModel, body: Json
) -> None:
    logged: list[tuple[str, str]] = []
    model = make(temperature=0.2, places=TOLD, on_refused=lambda *told: logged.append(told))
    for _ in range(2):
        provider.will(status(400, body))
        with pytest.raises(LLMError) as refused:
            await model.generate(ModelRequest([GO]), RecordingObserver())
        assert refused.value.reason_name == "LLM_REJECTED"
        assert refused.value.message.endswith(f"; see {TOLD['temperature']}")
    assert [parameter for parameter, _ in logged] == ["temperature"]


@pytest.mark.parametrize("body", [{"error": {"code": "model_not_found", "message": "gone"}}, b"", b"<html>"])
async def test_a_model_that_is_gone_is_told_by_where_it_is_named(
    provider: FakeProvider, make: MakeModel, body: Json | bytes
) -> None:
    provider.will(status(404, body))
    with pytest.raises(LLMError) as refused:
        await make(places=TOLD).generate(ModelRequest([GO]), RecordingObserver())
    assert refused.value.reason_name == "MODEL_NOT_FOUND"
    assert refused.value.message.endswith(f"; see {TOLD['model']}, which is 'gpt-4'")

"""Chat Completions: opaque fields of a reply go back to the model that sent them, and what is sent is well-formed."""

from __future__ import annotations

from typing import Any

import pytest

from agent_service.errors import LLMError
from agent_service.llm.base import Message, ModelReply, ModelRequest, Role
from agent_service.llm.openai.model import OpenAIModel
from agent_service.llm.openai.request_settings import PassBack
from agent_service.v1.task_event_pb2 import FINISH_REASON_TOOL_CALLS
from agent_service.v1.tool_pb2 import ToolCall
from tests.fakes.provider import FakeProvider, Json, chunk, document, finish, status, stream, text
from tests.llm.conftest import MakeModel
from tests.llm.observer import RecordingObserver

GO = Message(Role.USER, "go")
FINE = stream(text("fine"), finish())
SIGNED = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
CALL: Json = {"index": 0, "id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
DETAILS = [{"type": "reasoning.text", "text": "I ", "index": 0}, {"type": "reasoning.text", "text": "see.", "index": 0}]


async def replied(provider: FakeProvider, model: OpenAIModel, *deltas: Json) -> ModelReply:
    provider.will(stream(*map(chunk, deltas), finish("tool_calls")))
    return await model.generate(ModelRequest([GO]), RecordingObserver())


async def sent_after(provider: FakeProvider, asked_model: OpenAIModel, reply: ModelReply, **changed: Any) -> list[Json]:
    """The messages that are sent for a conversation with this reply."""
    given = {"provider_state": reply.provider_state, **changed}
    results = [Message(Role.TOOL, "noon", tool_call_id=call.id) for call in reply.tool_calls]
    provider.will(FINE)
    asked = [GO, Message(Role.ASSISTANT, reply.text, reply.tool_calls, **given), *results]
    await asked_model.generate(ModelRequest(asked), RecordingObserver())
    found: list[Json] = provider.requests[-1].body["messages"]
    return found


@pytest.mark.parametrize(
    ("deltas", "message", "call"),
    [
        pytest.param(
            [{"reasoning_content": "I "}, {"reasoning_content": "see."}, {"tool_calls": [CALL]}],
            {"reasoning_content": "I see."},
            {},
            id="DeepSeek, Kimi",
        ),
        pytest.param([{"tool_calls": [CALL | SIGNED]}], {}, SIGNED, id="Gemini"),
        pytest.param(
            [{"reasoning_details": DETAILS[:1]}, {"reasoning_details": DETAILS[1:]}, {"tool_calls": [CALL]}],
            {"reasoning_details": [{"type": "reasoning.text", "text": "I see.", "index": 0}]},
            {},
            id="OpenRouter",
        ),
        pytest.param(
            [{"tool_calls": [CALL | {"function": CALL["function"] | {"signature": "s"}}]}],
            {},
            {"function": {"name": "clock", "arguments": "{}", "signature": "s"}},
            id="in the function",
        ),
    ],
)
async def test_opaque_fields_go_back_to_the_model_that_sent_them(
    provider: FakeProvider, make_model: MakeModel, deltas: list[Json], message: Json, call: Json
) -> None:
    model = make_model()
    reply = await replied(provider, model, *deltas)
    asked = (await sent_after(provider, model, reply))[1]
    sent_call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    assert asked == {"role": "assistant", "content": "", "tool_calls": [sent_call | call], **message}

    elsewhere = (await sent_after(provider, make_model(model_id="other"), reply))[1]
    assert elsewhere == {"role": "assistant", "content": "", "tool_calls": [sent_call]}


async def test_a_document_has_them_too(provider: FakeProvider, make_model: MakeModel) -> None:
    said = {"content": None, "reasoning_content": "I see.", "tool_calls": [CALL | SIGNED]}
    provider.will(document({"choices": [{"message": said, "finish_reason": "tool_calls"}]}))
    model = make_model()
    reply = await model.generate(ModelRequest([GO]), RecordingObserver())
    asked = (await sent_after(provider, model, reply))[1]
    assert asked["reasoning_content"] == "I see."
    assert asked["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]


async def test_always_and_never_are_taken_at_their_word(provider: FakeProvider, make_model: MakeModel) -> None:
    always = make_model(pass_back=PassBack.ALWAYS)
    reply = await replied(provider, always, {"tool_calls": [CALL]})
    assert (await sent_after(provider, always, reply))[1]["reasoning_content"] == ""

    never = make_model(pass_back=PassBack.NEVER)
    reply = await replied(provider, never, {"reasoning_content": "I see."}, {"tool_calls": [CALL]})
    assert reply.provider_state == b""
    assert "reasoning_content" not in (await sent_after(provider, never, reply))[1]


async def test_a_reply_without_such_fields_has_no_state(provider: FakeProvider, make_model: MakeModel) -> None:
    reply = await replied(provider, make_model(), {"role": "assistant", "content": None}, {"tool_calls": [CALL]})
    assert reply.provider_state == b""


@pytest.mark.parametrize(
    ("model_key", "call_id", "expected"),
    [
        ("smart", "functions.clock:0", "functions.clock:0"),  # the model's own go back as they are
        ("other", "functions.clock:0", None),
        ("other", "call_17", None),
        ("smart", "x" * 65, None),
        ("smart", "n\u00e9", None),
    ],
)
async def test_ids_of_another_model_are_such_as_every_provider_takes(
    provider: FakeProvider, make_model: MakeModel, model_key: str, call_id: str, expected: str | None
) -> None:
    model = make_model(model_key="smart")
    reply = await replied(provider, model, {"tool_calls": [CALL | {"id": call_id}]})
    for _ in range(2):
        _, asked, answered = await sent_after(provider, model, reply, model=model_key)
        sent = asked["tool_calls"][0]["id"]
        assert answered["tool_call_id"] == sent
        assert sent == expected if expected else len(sent) == 9 and sent.isascii() and sent.isalnum()


async def test_what_models_break_in_a_conversation_is_sent_well_formed(
    provider: FakeProvider, make_model: MakeModel
) -> None:
    arguments = ['{"a', "", "null", "[1]", '{"a": "\x01"}', '"{\\"a\\": 1}"', '{"a":  1}']
    calls = [ToolCall(id=f"c{n}", name="files.read", arguments_json=each) for n, each in enumerate(arguments)]
    _, asked, *_ = await sent_after(provider, make_model(), ModelReply("", calls, FINISH_REASON_TOOL_CALLS))

    sent = [call["function"] for call in asked["tool_calls"]]
    assert {each["name"] for each in sent} == {"files_read"}
    assert [each["arguments"] for each in sent] == ["{}", "{}", "{}", "{}", "{}", '{"a": 1}', '{"a":  1}']


FIELD = "messages.1.assistant.reasoning_content"
REFUSED_FIELDS = [
    {"message": f"{FIELD}: property '{FIELD}' is unsupported"},
    {"error": {"message": "'messages.1' : for 'role:assistant' property 'reasoning_content' is unsupported"}},
    {"detail": [{"type": "extra_forbidden", "loc": ["body", "messages", 1, "assistant", "reasoning_content"]}]},
]


@pytest.mark.parametrize("body", REFUSED_FIELDS)
async def test_a_field_that_its_server_refuses_back_is_left_out_from_then_on(
    provider: FakeProvider, make_model: MakeModel, body: Json
) -> None:
    model = make_model()
    reply = await replied(provider, model, {"reasoning_content": "I see."}, {"tool_calls": [CALL]})
    provider.will(status(400, body))
    with pytest.raises(LLMError) as refused:
        await sent_after(provider, model, reply)
    assert refused.value.retryable
    assert "reasoning_content" not in (await sent_after(provider, model, reply))[1]


async def test_a_server_that_misses_reasoning_is_not_asked_again(provider: FakeProvider, make_model: MakeModel) -> None:
    told = "messages.1: The `reasoning_content` in the thinking mode must be passed back to the API."
    model = make_model()
    reply = await replied(provider, model, {"reasoning_content": "I see."}, {"tool_calls": [CALL]})
    provider.will(status(400, {"error": {"message": told, "type": "invalid_request_error"}}))
    with pytest.raises(LLMError) as refused:
        await sent_after(provider, model, reply)
    assert not refused.value.retryable


async def test_what_only_tells_of_a_reply_does_not_go_back(provider: FakeProvider, make_model: MakeModel) -> None:
    noise: Json = {"channel": "analysis", "content_filter_results": {}, "citations": ["x"], "logprobs": {"x": 1}}
    reply = await replied(provider, make_model(), noise | {"content": "Let me see."}, {"tool_calls": [CALL]})
    assert reply.provider_state == b""


async def test_no_two_calls_of_a_request_have_the_same_id(provider: FakeProvider, make_model: MakeModel) -> None:
    model = make_model(model_key="smart")
    turn = [
        Message(Role.USER, "go"),
        Message(Role.ASSISTANT, "", [ToolCall(id="clock:0", name="clock")], model="smart"),
        Message(Role.TOOL, "noon", tool_call_id="clock:0"),
        Message(Role.ASSISTANT, "noon"),
    ]
    sent: list[list[str]] = []
    for _ in range(2):
        provider.will(FINE)
        await model.generate(ModelRequest([*turn, *turn, GO]), RecordingObserver())
        messages = provider.requests[-1].body["messages"]
        called = [call["id"] for each in messages for call in each.get("tool_calls", ())]
        assert [each["tool_call_id"] for each in messages if each["role"] == "tool"] == called
        assert len(set(called)) == 2
        sent.append(called)
    assert sent[0] == sent[1]


async def test_messages_that_templates_refuse_are_not_sent(provider: FakeProvider, make_model: MakeModel) -> None:
    conversation = [
        GO,
        Message(Role.ASSISTANT, "  "),
        Message(Role.USER, "so?"),
        Message(Role.ASSISTANT, "\n", [ToolCall(id="c1", name="1st")], model="other"),
        Message(Role.TOOL, "noon", tool_call_id="c1"),
    ]
    provider.will(FINE)
    await make_model().generate(ModelRequest(conversation), RecordingObserver())
    user, called, _ = provider.requests[-1].body["messages"]
    assert user == {"role": "user", "content": "go\n\nso?"}
    assert called["content"] == ""
    assert called["tool_calls"][0]["function"]["name"] == "_1st"

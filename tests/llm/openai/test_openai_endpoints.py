"""The OpenAI adapter at other addresses than OpenAI's: Azure, gateways, servers that can do less."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from agent_service.errors import LLMError
from agent_service.llm.base import Capabilities, Message, ModelRequest, Role, ToolSpec
from agent_service.llm.openai.endpoint import azure_endpoint
from agent_service.llm.openai.model import OpenAIModel
from agent_service.v1.tool_pb2 import ToolCall
from tests.fakes.provider import FakeProvider, Json, finish, status, stream, text
from tests.llm.conftest import MakeModel
from tests.llm.observer import RecordingObserver

HELLO = ModelRequest([Message(Role.USER, "hello")])
ADD = ToolSpec("add", "Adds.", '{"type": "object", "properties": {"a": {}}}')


def call(number: int) -> ToolCall:
    return ToolCall(id=f"call_{number}", name="add", arguments_json=f'{{"a": {number}}}')


def result(number: int) -> Message:
    return Message(Role.TOOL, str(number), tool_call_id=f"call_{number}", tool_name="add")


CONVERSATION = [
    Message(Role.SYSTEM, "Be brief."),
    Message(Role.USER, "add"),
    Message(Role.ASSISTANT, "Both.", [call(1), call(2)]),
    result(1),
    result(2),
    Message(Role.ASSISTANT, "", [call(3)]),
    result(3),
]


@pytest.fixture
def azure(provider: FakeProvider, make_model: MakeModel) -> Callable[[], OpenAIModel]:
    resource = provider.base_url.removesuffix("/v1")

    def make() -> OpenAIModel:
        endpoint = azure_endpoint(
            f"{resource}/", "azure-key", {"x-team": "agents"}, deployment="gpt 4/o", api_version="2024-10-21"
        )
        return make_model(
            endpoint=endpoint, model_id="gpt 4/o", max_tokens=64, max_tokens_parameter="max_completion_tokens"
        )

    return make


async def test_azure_is_asked_for_the_deployment_with_its_key_in_its_own_header(
    provider: FakeProvider, azure: Callable[[], OpenAIModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION"):
        monkeypatch.setenv(name, "leaked")
    provider.will(stream(text("hi"), finish()))
    reply = await azure().generate(HELLO, RecordingObserver())
    assert reply.text == "hi"
    [request] = provider.requests
    assert request.path == "/openai/deployments/gpt%204%2Fo/chat/completions?api-version=2024-10-21"
    assert (request.headers["api-key"], request.headers["x-team"]) == ("azure-key", "agents")
    assert "authorization" not in request.headers
    assert "leaked" not in str(request.headers)
    assert request.body["max_completion_tokens"] == 64


async def test_whether_azure_takes_the_key_is_asked_of_the_resource(
    provider: FakeProvider, azure: Callable[[], OpenAIModel]
) -> None:
    model = azure()
    await model.check()
    provider.models_reply = status(401)
    with pytest.raises(LLMError, match="rejects the key"):
        await model.check()


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
async def test_configured_headers_are_sent_and_replace_ours(
    provider: FakeProvider, make_model: MakeModel, name: str
) -> None:
    provider.will(stream(text("hi"), finish()))
    headers = {name: "Basic abc", "x-gateway-key": "k", "openai-organization": "org-1"}
    await make_model(headers=headers).generate(HELLO, RecordingObserver())
    sent = provider.requests[0].headers
    assert (sent["authorization"], sent["x-gateway-key"], sent["openai-organization"]) == ("Basic abc", "k", "org-1")


async def body(provider: FakeProvider, make_model: MakeModel, **can: bool) -> Json:
    """What a model of these capabilities is sent."""
    provider.will(stream(text("hi"), finish()))
    model = make_model(capabilities=Capabilities(**can))
    await model.generate(ModelRequest(CONVERSATION, [ADD]), RecordingObserver())
    return provider.requests[0].body


async def test_a_model_that_can_do_all_is_shown_the_conversation_as_it_is(
    provider: FakeProvider, make_model: MakeModel
) -> None:
    sent = await body(provider, make_model)
    assert [message["role"] for message in sent["messages"]] == [message.role for message in CONVERSATION]
    assert sent["stream_options"] == {"include_usage": True}
    assert "parallel_tool_calls" not in sent


async def test_a_model_without_parallel_calls_is_asked_for_one_and_shown_them_one_by_one(
    provider: FakeProvider, make_model: MakeModel
) -> None:
    sent = await body(provider, make_model, parallel_tools=False)
    assert sent["parallel_tool_calls"] is False
    assert [
        (message["role"], message.get("tool_call_id") or [call["id"] for call in message.get("tool_calls", ())])
        for message in sent["messages"][2:]
    ] == [
        ("assistant", ["call_1"]),
        ("tool", "call_1"),
        ("assistant", ["call_2"]),
        ("tool", "call_2"),
        ("assistant", ["call_3"]),
        ("tool", "call_3"),
    ]
    assert [message["content"] for message in sent["messages"] if message["role"] == "assistant"] == [
        "Both.",
        "",
        "",
    ]


async def test_a_model_without_tools_is_shown_none_and_reads_of_calls_and_results_as_text(
    provider: FakeProvider, make_model: MakeModel
) -> None:
    sent = await body(provider, make_model, tools=False, parallel_tools=False)
    assert not {"tools", "parallel_tool_calls"} & set(sent)
    assert sent["messages"][2:] == [
        {
            "role": "assistant",
            "content": 'Both.\n\nI call the tool add with {"a": 1}\n\nI call the tool add with {"a": 2}',
        },
        {"role": "user", "content": "The tool add returned: 1\n\nThe tool add returned: 2"},
        {"role": "assistant", "content": 'I call the tool add with {"a": 3}'},
        {"role": "user", "content": "The tool add returned: 3"},
    ]
    assert b"tool_call" not in orjson.dumps(sent)


async def test_a_model_that_knows_no_stream_options_is_sent_none_and_its_usage_estimated(
    provider: FakeProvider, make_model: MakeModel
) -> None:
    assert "stream_options" not in await body(provider, make_model, stream_usage=False)
    provider.will(stream(text("hi"), finish()))
    model = make_model(capabilities=Capabilities(stream_usage=False))
    assert (await model.generate(HELLO, RecordingObserver())).usage.estimated

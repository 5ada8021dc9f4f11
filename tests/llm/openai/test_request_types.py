"""Every request of either API is one that OpenAI's package has a type for, and that the strict provider takes, whatever
the conversation holds.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import ValidationError

from agent_service.llm.base import Capabilities, Message, ModelReply, ModelRequest, Role, ToolSpec
from agent_service.llm.openai.chat.request import ChatRequests
from agent_service.llm.openai.provider_state import StateKeeper
from agent_service.llm.openai.request_settings import Api, RequestSettings
from agent_service.llm.openai.responses.reply import ResponsesAssembler
from agent_service.llm.openai.responses.request import ResponsesRequests
from agent_service.v1.tool_pb2 import ToolCall
from tests.fakes import responses
from tests.fakes.strict.chat import ChatApi
from tests.fakes.strict.model import MODELS, PlayedModel
from tests.fakes.strict.responses import ResponsesApi
from tests.llm.openai.request_types import CHAT_REQUEST, RESPONSES_REQUEST
from tests.llm.openai.streams import ARGUMENTS, NAME, TEXT, response_items

Json = dict[str, Any]
MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

KEEPER = StateKeeper("responses", "http://provider/v1", "m")
MAYBE_TEXT = st.one_of(TEXT, st.sampled_from(("", " \n")))
# What models write in place of a name, arguments or an id.
ODD_NAME = st.one_of(NAME, TEXT, st.just("a.b"), st.just("x" * 80))
ODD_ARGUMENTS = st.one_of(ARGUMENTS, st.sampled_from(("", "null", "[]", '"{}"', "\x00", "{" * 50)))
CALL_ID = st.one_of(st.from_regex(r"call_[a-z0-9]{24}", fullmatch=True), TEXT)
CALL = st.builds(lambda *one: ToolCall(id=one[0], name=one[1], arguments_json=one[2]), CALL_ID, ODD_NAME, ODD_ARGUMENTS)
SCHEMA = (
    '{"type":"object","properties":{"number":{"type":"integer"}},"required":["number"],"additionalProperties":false}'
)
TOOL = st.builds(lambda name, text: ToolSpec(name, text, SCHEMA), NAME, MAYBE_TEXT)


@st.composite
def replies(draw: st.DrawFn) -> Message:
    """What an assistant has said: this model as items, or a model of any kind as text and calls."""
    if draw(st.booleans()):
        items = draw(response_items())
        assembler = ResponsesAssembler(KEEPER)
        assembler.add_document(orjson.dumps(responses.document(*items)))
        reply: ModelReply = assembler.reply(input_bytes=0, calls_before=0, model_id="m")
        return Message(Role.ASSISTANT, reply.text, reply.tool_calls, model="mine", provider_state=reply.provider_state)
    calls = draw(st.lists(CALL, max_size=3, unique_by=lambda call: call.id))
    return Message(Role.ASSISTANT, draw(MAYBE_TEXT), calls, model=draw(st.sampled_from(("mine", "other", ""))))


@st.composite
def requests(draw: st.DrawFn) -> ModelRequest:
    messages = [Message(Role.SYSTEM, draw(TEXT))] if draw(st.booleans()) else []
    messages.append(Message(Role.USER, draw(TEXT)))
    for reply in draw(st.lists(replies(), max_size=4)):
        messages.append(reply)
        messages += [
            Message(Role.TOOL, draw(MAYBE_TEXT), tool_call_id=call.id, tool_name=call.name) for call in reply.tool_calls
        ]
        if not reply.tool_calls:
            messages.append(Message(Role.USER, draw(TEXT)))
    return ModelRequest(
        messages,
        tools=draw(st.lists(TOOL, max_size=2)),
        output_schema_json=draw(st.sampled_from(("", SCHEMA, '{"type":"object"}'))),
        cache_key=draw(st.sampled_from(("", "session-1"))),
    )


@st.composite
def request_settings(draw: st.DrawFn, api: Api) -> RequestSettings:
    return RequestSettings(
        "m",
        api=api,
        temperature=draw(st.sampled_from((None, 0.2))),
        max_tokens=draw(st.sampled_from((None, 1024))),
        max_tokens_parameter=draw(st.sampled_from(("max_tokens", "max_completion_tokens"))),
        effort=draw(st.sampled_from((None, "none", "xhigh"))),
        effort_for_tools=draw(st.sampled_from((None, "none"))),
        summary=draw(st.sampled_from((None, "auto"))),
        encrypted_reasoning=draw(st.booleans()),
        capabilities=Capabilities(*(draw(st.booleans()) for _ in range(4))),
    )


@pytest.mark.timeout(240)  # a second or two of CPU for every hundred, on a machine that may be busy
@MANY
@given(request_settings(Api.CHAT), requests())
def test_a_chat_completion_is_asked_for_as_openais_package_would(given: RequestSettings, request: ModelRequest) -> None:
    body = ChatRequests(given, StateKeeper("chat", "http://provider/v1", "m"), "mine").encode(request)
    CHAT_REQUEST.validate_python(orjson.loads(body))
    ChatApi(PlayedModel()).check(orjson.loads(body), MODELS["gpt-4.1-strict"])


@pytest.mark.timeout(240)  # a second or two of CPU for every hundred, on a machine that may be busy
@MANY
@given(request_settings(Api.RESPONSES), requests())
def test_a_response_is_asked_for_as_openais_package_would(given: RequestSettings, request: ModelRequest) -> None:
    body = ResponsesRequests(given, KEEPER, "mine").encode(request)
    RESPONSES_REQUEST.validate_python(orjson.loads(body))
    if not any(message.provider_state for message in request.messages):  # items of a provider are known to it alone
        asked = {name: value for name, value in orjson.loads(body).items() if name != "temperature"}
        ResponsesApi(PlayedModel()).check(asked, MODELS["gpt-5.6-strict"])


USER = {"role": "user", "content": "hi"}
WRONG_CHAT: dict[str, Json] = {
    "a field of the other API": {"messages": [USER], "max_output_tokens": 9},
    "a number as text": {"messages": [USER], "max_tokens": "9"},
    "a field of a message": {"messages": [USER | {"reasoning_content": "hm"}]},
    "a tool of the other API": {"messages": [USER], "tools": [{"type": "function", "name": "note", "strict": False}]},
    "a call without a type": {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]},
}
WRONG_RESPONSES: dict[str, Json] = {
    "a field of the other API": {"input": [USER], "max_tokens": 9},
    "a field of an item": {
        "input": [{"type": "function_call", "call_id": "a", "name": "n", "arguments": "{}", "x": 1}]
    },
    "a message without text": {"input": [{"role": "user", "content": None}]},
    "reasoning without its id": {"input": [{"type": "reasoning", "summary": []}]},
    "a format without a schema": {"input": [USER], "text": {"format": {"type": "json_schema", "name": "answer"}}},
}


@pytest.mark.parametrize("case", WRONG_CHAT)
def test_what_is_no_chat_completion_is_seen(case: str) -> None:
    with pytest.raises(ValidationError):
        CHAT_REQUEST.validate_python({"model": "m", "stream": True, **WRONG_CHAT[case]})


@pytest.mark.parametrize("case", WRONG_RESPONSES)
def test_what_is_no_response_is_seen(case: str) -> None:
    with pytest.raises(ValidationError):
        RESPONSES_REQUEST.validate_python({"model": "m", "stream": True, **WRONG_RESPONSES[case]})

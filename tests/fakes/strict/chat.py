"""Chat Completions, as the strict provider speaks them: what is refused, and the chunks of a reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tests.fakes import provider as chunks
from tests.fakes.responses import pieces
from tests.fakes.strict.model import CHAT, Call, Personality, PlayedModel, Progress, signature
from tests.fakes.strict.refusal import (
    Refusal,
    check_arguments,
    check_name,
    check_text,
    refuse_temperature,
    refuse_unknown,
    words,
)

Json = dict[str, Any]

_OPENAI = words(
    "model messages stream stream_options tools tool_choice parallel_tool_calls response_format max_tokens"
    " max_completion_tokens temperature top_p stop reasoning_effort verbosity prompt_cache_key prompt_cache_retention"
    " safety_identifier seed store metadata user n logprobs top_logprobs presence_penalty frequency_penalty logit_bias"
    " service_tier modalities prediction"
)
_FIELDS = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "refusal", "tool_calls"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}
_CALL_FIELDS = frozenset({"id", "type", "function"})
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class ChatApi:
    """Keeps what each reply's calls were sent with, to see it come back."""

    path = CHAT

    def __init__(self, model: PlayedModel) -> None:
        self._model = model
        self._sent: dict[tuple[str, str], Json] = {}  # the assistant's message, by model and the id of a call
        self._replies = 0
        self.carried = 0

    # What is refused.

    def check(self, body: Json, personality: Personality) -> None:
        known = personality.fields or _OPENAI
        refuse_unknown(body, known)
        for name, value in body.items():
            if value is None:
                raise Refusal(f"Invalid type for '{name}': null.", name, "invalid_type")
        if personality.reasons:
            refuse_temperature(body)
            self._check_reasoning(body, personality)
        for index, tool in enumerate(body.get("tools", ())):
            check_name(tool["function"]["name"], f"tools[{index}].function.name")
        if body.get("tools") == []:
            raise Refusal("Invalid 'tools': empty array.", "tools", "empty_array")
        if "stream_options" in body and not body.get("stream"):
            raise Refusal("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
        self._check_messages(body.get("messages"), personality, body["model"])

    def _check_reasoning(self, body: Json, personality: Personality) -> None:
        if "max_tokens" in body:
            told = "Unsupported parameter: 'max_tokens' is not supported with this model."
            raise Refusal(f"{told} Use 'max_completion_tokens' instead.", "max_tokens", "unsupported_parameter")
        effort = body.get("reasoning_effort", "medium")
        if effort not in EFFORTS:
            raise Refusal(f"Unsupported value: 'reasoning_effort' does not support '{effort}'.", "reasoning_effort")
        if personality.needs_effort_none and body.get("tools") and effort != "none":
            told = f"Function tools with reasoning_effort are not supported for {body['model']} in"
            raise Refusal(
                f"{told} /v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to"
                " 'none'.",
                "reasoning_effort",
            )

    def _check_messages(self, messages: object, personality: Personality, model: str) -> None:
        if not isinstance(messages, list) or not messages:
            raise Refusal("Invalid 'messages': empty array.", "messages", "empty_array")
        open_calls: list[str] = []
        for index, message in enumerate(messages):
            where = f"messages[{index}]"
            role = message.get("role")
            if role not in _FIELDS:
                raise Refusal(f"Invalid value: '{role}'.", f"{where}.role", "invalid_value")
            opaque = personality.opaque if role == "assistant" else frozenset()
            refuse_unknown(message, _FIELDS[role] | opaque, where)
            calls = message.get("tool_calls")
            may_be_empty = role == "tool" or bool(calls)
            check_text(message.get("content"), f"{where}.content", may_be_empty=may_be_empty)
            if role == "tool":
                if message.get("tool_call_id") not in open_calls:
                    told = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                    raise Refusal(f"Invalid parameter: {told}", f"{where}.role")
                open_calls.remove(message["tool_call_id"])
                continue
            _refuse_open(open_calls, where)
            if calls is not None:
                open_calls = self._check_calls(message, personality, model, where)
        _refuse_open(open_calls, "messages")

    def _check_calls(self, message: Json, personality: Personality, model: str, where: str) -> list[str]:
        """The ids of the message's calls."""
        calls = message["tool_calls"]
        if not calls or message["role"] != "assistant":
            raise Refusal(f"Invalid '{where}.tool_calls': empty array.", f"{where}.tool_calls", "empty_array")
        ids: list[str] = []
        for number, call in enumerate(calls):
            param = f"{where}.tool_calls[{number}]"
            may_have = _CALL_FIELDS | {"extra_content"} if personality.name == "gemini" else _CALL_FIELDS
            refuse_unknown(call, may_have, param)
            if call.get("type") != "function":
                raise Refusal(f"Missing required parameter: '{param}.type'.", f"{param}.type")
            check_name(call["function"].get("name"), f"{param}.function.name")
            check_arguments(call["function"].get("arguments"), f"{param}.function.arguments")
            _check_id(call.get("id"), personality, f"{param}.id")
            if call["id"] in ids:
                raise Refusal(f"Duplicate value for 'tool_call_id' of '{call['id']}' found in message.", param)
            ids.append(call["id"])
        self._check_opaque(message, personality, model, where)
        return ids

    def _check_opaque(self, message: Json, personality: Personality, model: str, where: str) -> None:
        """Whether what came with the calls came back with them, unless another model made them."""
        sent = self._sent.get((model, message["tool_calls"][0]["id"]))
        if sent is None:
            for name in personality.opaque & message.keys():
                raise Refusal(f"Invalid '{where}.{name}': it is not of this model.", f"{where}.{name}")
            if any("extra_content" in call for call in message["tool_calls"]):
                raise Refusal("Invalid thought_signature.", where)
            return
        for name in sorted(personality.opaque):
            if message.get(name) != sent.get(name):
                told = f"The `{name}` in the thinking mode must be passed back to the API."
                raise Refusal(told, None, "invalid_request_error")
        for call, original in zip(message["tool_calls"], sent["tool_calls"], strict=False):
            if call.get("extra_content") != original.get("extra_content"):
                name = call["function"]["name"]
                told = "Function call is missing a thought_signature in functionCall parts."
                raise Refusal(f"{told} Additional data, function call `default_api:{name}`.")
        self.carried += bool(personality.opaque) or personality.name == "gemini"

    # What is played.

    def reply(self, body: Json, personality: Personality) -> list[Json]:
        """The chunks of the reply, the last two with its finish and its usage."""
        self._replies += 1
        progress = progress_of(body["messages"])
        tools = [(tool["function"]["name"], tool["function"].get("parameters", {})) for tool in body.get("tools", ())]
        calls = self._model.calls(progress, tools)
        opaque = self._opaque(personality)
        if calls:
            made = self._calls(calls, personality)
            self._sent |= {(body["model"], call["id"]): {**opaque, "tool_calls": made} for call in made}
            found = [*_opaque_chunks(opaque), *_call_chunks(made, personality), chunks.finish("tool_calls")]
        else:
            texts = [chunks.text(piece) for piece in pieces(self._model.answer(progress), 5)]
            found = [*_opaque_chunks(opaque), *texts, chunks.finish()]
        if body.get("stream_options", {}).get("include_usage"):
            found.append(chunks.usage())
        return [{**chunk, "model": body["model"]} for chunk in found]

    def _opaque(self, personality: Personality) -> Json:
        signed = signature(personality.name, self._replies)
        match personality.name:
            case "deepseek":
                return {"reasoning_content": f"Thought {signed[:8]} about it."}
            case "openrouter":
                entry = {"type": "reasoning.encrypted", "data": signed, "id": "r1", "format": "x", "index": 0}
                return {"reasoning": "Thought about it.", "reasoning_details": [entry]}
        return {}

    def _calls(self, calls: Sequence[Call], personality: Personality) -> list[Json]:
        made: list[Json] = []
        for number, call in enumerate(calls):
            signed = signature("call", personality.name, self._replies, number)
            ids = {
                "mistral": signed[:9],
                "gemini": f"function-call-{signed[:18]}",
                "deepseek": f"call_00_{signed[:20]}",
            }
            one: Json = {"id": ids.get(personality.name, f"call_{signed[:24]}"), "type": "function"}
            one["function"] = {"name": call.name, "arguments": call.arguments}
            if personality.name == "gemini" and number == 0:  # of parallel calls only the first is signed
                one["extra_content"] = {"google": {"thought_signature": signed}}
            made.append(one)
        return made


def progress_of(messages: Sequence[Json]) -> Progress:
    last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=0)
    after = messages[last + 1 :]
    turns = sum(1 for message in after if message.get("tool_calls"))
    outputs = [str(message["content"]) for message in after if message["role"] == "tool"]
    return Progress(str(messages[last]["content"]), turns, outputs)


def _refuse_open(open_calls: Sequence[str], where: str) -> None:
    if open_calls:
        told = "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
        missing = ", ".join(open_calls)
        raise Refusal(
            f"{told} 'tool_call_id'. The following tool_call_ids did not have response messages: {missing}", where
        )


def _check_id(call_id: object, personality: Personality, param: str) -> None:
    if not isinstance(call_id, str) or not re.fullmatch(personality.call_id, call_id):
        told = f"Tool call id was {call_id} but must match {personality.call_id}."
        raise Refusal(told, param, "invalid_value")


def _opaque_chunks(opaque: Json) -> list[Json]:
    """The fields as they come in a stream: texts in pieces, the rest whole."""
    found: list[Json] = []
    for name, value in opaque.items():
        parts = pieces(value, 7) if isinstance(value, str) else [value]
        found += [chunks.chunk({"content": None, name: part}) for part in parts]
    return found


def _call_chunks(made: Sequence[Json], personality: Personality) -> list[Json]:
    if personality.name == "gemini":  # each whole in one chunk, without an index
        return [chunks.chunk({"tool_calls": [call]}) for call in made]
    found: list[Json] = []
    for index, call in enumerate(made):
        function = call["function"]
        found.append(chunks.tool_call(index, call["id"], function["name"], ""))
        found += [chunks.tool_call(index, arguments=part) for part in pieces(function["arguments"], 5)]
    return found


def document(found: Sequence[Json]) -> Json:
    """The same reply in one piece."""
    message: Json = {"role": "assistant", "content": None}
    whole: Json = {**found[0], "object": "chat.completion", "usage": None}
    finish = None
    for chunk in found:
        whole["usage"] = chunk["usage"] or whole["usage"]
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    _add_calls(message.setdefault(name, []), value)
                elif value is not None:
                    message[name] = message[name] + value if message.get(name) else value
    return {**whole, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def _add_calls(calls: list[Json], deltas: Sequence[Json]) -> None:
    for delta in deltas:
        function = delta["function"]
        if "id" in delta:
            calls.append({name: value for name, value in delta.items() if name != "index"} | {"function": {**function}})
        else:
            calls[delta["index"]]["function"]["arguments"] += function["arguments"]

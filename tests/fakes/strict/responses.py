"""The Responses API, as the strict provider speaks it: what is refused, and the events of a reply.

It holds a caller to more than OpenAI does, who takes a call of its own back without its item's id and then has lost the
model's reasoning: a call that the model made comes back as the items that it came in, as they were and in their order.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from tests.fakes import responses
from tests.fakes.strict.chat import EFFORTS
from tests.fakes.strict.model import RESPONSES, Personality, PlayedModel, Progress, signature
from tests.fakes.strict.refusal import (
    NAME,
    Refusal,
    check_arguments,
    check_name,
    check_text,
    is_object,
    refuse_temperature,
    refuse_unknown,
    words,
)

Json = dict[str, Any]

_KNOWN = words(
    "model input instructions stream stream_options store include tools tool_choice parallel_tool_calls max_tool_calls"
    " max_output_tokens reasoning text prompt_cache_key prompt_cache_retention safety_identifier metadata truncation"
    " temperature top_p top_logprobs user service_tier previous_response_id conversation prompt background"
)
_FIELDS = {
    "message": frozenset({"type", "role", "content", "id", "status", "phase"}),
    "reasoning": frozenset({"type", "id", "summary", "content", "encrypted_content", "status"}),
    "function_call": frozenset({"type", "id", "call_id", "name", "arguments", "status", "namespace", "caller"}),
    "function_call_output": frozenset({"type", "id", "call_id", "output", "status"}),
}
_ENCRYPTED = "reasoning.encrypted_content"


class ResponsesApi:
    """Keeps the items of each reply, to see them come back."""

    path = RESPONSES

    def __init__(self, model: PlayedModel) -> None:
        self._model = model
        self._sent: dict[str, list[Json]] = {}  # a reply's items, by the id of each
        self._made: dict[str, tuple[str, list[Json]]] = {}  # the model and a reply's items, by the id of each call
        self._replies = 0
        self._key = 0
        self.carried = 0

    def change_key(self) -> None:
        """What was encrypted so far cannot be read any more, as with another key or organization of the provider."""
        self._key += 1
        self._sent.clear()
        self._made.clear()

    # What is refused.

    def check(self, body: Json, personality: Personality) -> None:
        refuse_unknown(body, _KNOWN)
        if body.get("store") is not False:
            raise Refusal("Invalid 'store': nothing is kept here, it must be false.", "store", "unsupported_value")
        for name in ("previous_response_id", "conversation"):
            if body.get(name):
                raise Refusal(f"Previous response with id '{body[name]}' not found.", name, f"{name}_not_found")
        self._check_settings(body, personality)
        for index, tool in enumerate(body.get("tools", ())):
            _check_tool(tool, f"tools[{index}]")
        form = body.get("text", {}).get("format")
        if form and form["type"] == "json_schema":
            check_name(form.get("name"), "text.format.name")
            if not isinstance(form.get("schema"), dict):
                raise Refusal("Missing required parameter: 'text.format.schema'.", "text.format.schema")
        items = body.get("input")
        if isinstance(items, str) or not items:
            raise Refusal("Invalid 'input': expected an array of items.", "input")
        self._check_items(items, body["model"])

    def _check_settings(self, body: Json, personality: Personality) -> None:
        reasoning = body.get("reasoning") or {}
        refuse_unknown(reasoning, frozenset({"effort", "summary", "context", "mode"}), "reasoning")
        if personality.reasons:
            refuse_temperature(body)
            if reasoning.get("effort", "medium") not in EFFORTS:
                told = f"Unsupported value: '{reasoning['effort']}' is not supported with this model."
                raise Refusal(told, "reasoning.effort", "unsupported_value")
        elif reasoning:
            told = "Unsupported parameter: 'reasoning.effort' is not supported with this model."
            raise Refusal(told, "reasoning.effort", "unsupported_parameter")
        elif _ENCRYPTED in body.get("include", ()):
            raise Refusal("Encrypted content is not supported with this model.", "include")
        if (bound := body.get("max_output_tokens", 16)) < 16:
            told = f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {bound}."
            raise Refusal(told, "max_output_tokens", "integer_below_min_value")
        if len(body.get("prompt_cache_key", "")) > 64:
            raise Refusal("Invalid 'prompt_cache_key': string too long.", "prompt_cache_key", "string_above_max_length")
        if body.get("instructions") == "":
            raise Refusal("Invalid 'instructions': empty string.", "instructions", "empty_string")

    def _check_items(self, items: Sequence[Json], model: str) -> None:
        seen: set[str] = set()
        open_calls: list[str] = []
        for index, item in enumerate(items):
            where = f"input[{index}]"
            kind = _check_form(item, where)
            item_id = item.get("id")
            if item_id is not None:
                if item_id in seen:
                    told = f"Duplicate item found with id {item_id}. Remove duplicate items from your input."
                    raise Refusal(told, "input")
                seen.add(item_id)
                self._check_sent(items, index, model)
            elif kind == "reasoning":
                raise Refusal(f"Missing required parameter: '{where}.id'.", f"{where}.id", "missing_required_parameter")
            if kind == "function_call":
                if not item_id:
                    self._refuse_bare(item, model)
                if item["call_id"] in open_calls:
                    raise Refusal(f"Duplicate function call with call_id {item['call_id']}.", where)
                open_calls.append(item["call_id"])
            elif kind == "function_call_output":
                if item["call_id"] not in open_calls:
                    told = f"No tool call found for function call output with call_id {item['call_id']}."
                    raise Refusal(told, "input")
                open_calls.remove(item["call_id"])
            elif open_calls and item.get("role") in ("user", "assistant"):
                break
        if open_calls:
            raise Refusal(f"No tool output found for function call {open_calls[0]}.", "input")

    def _check_sent(self, items: Sequence[Json], index: int, model: str) -> None:
        """Whether an item with an id stands, as it was sent, among those that it was sent with."""
        item = items[index]
        if item["type"] == "reasoning" and item.get("encrypted_content"):
            self._check_encrypted(item, model)
        sent = self._sent.get(item["id"])
        if sent is None or (item["type"] == "reasoning" and not item.get("encrypted_content")):
            told = f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false."
            raise Refusal(told, "input", status=404)
        place = next(number for number, one in enumerate(sent) if one["id"] == item["id"])
        around = items[max(0, index - place) : index - place + len(sent)]
        for number, original in enumerate(sent):
            if number < len(around) and _same(around[number], original):
                continue
            told = f"Item '{item['id']}' of type '{item['type']}' was provided without its required"
            if number == place:
                raise Refusal(f"Item '{item['id']}' of type '{item['type']}' was altered.", f"input[{index}]")
            if number > place:
                raise Refusal(f"{told} following item.", "input")
            raise Refusal(f"{told} '{original['type']}' item: '{original['id']}'.", "input")
        self.carried += item["type"] == "reasoning"

    def _check_encrypted(self, item: Json, model: str) -> None:
        text, _, signed = str(item["encrypted_content"]).partition(".")
        try:
            maker, number = bytes.fromhex(text).decode().split(" ")
            is_ours = hmac.compare_digest(signature(maker, int(number), self._key), signed) and maker == model
            is_ours = is_ours and _id("rs", int(number)) == item["id"]
        except ValueError:
            is_ours = False
        if not is_ours:
            told = f"The encrypted content for item {item['id']} could not be verified."
            raise Refusal(
                f"{told} Reason: Encrypted content could not be decrypted or parsed.", None, "invalid_encrypted_content"
            )

    def _refuse_bare(self, item: Json, model: str) -> None:
        maker, sent = self._made.get(item["call_id"], ("", []))
        if maker == model:
            told = f"Function call {item['call_id']} was provided without its required 'reasoning' item:"
            raise Refusal(f"{told} '{sent[0]['id']}'.", "input")

    # What is played.

    def reply(self, body: Json, personality: Personality) -> list[Json]:
        """The events of the reply."""
        self._replies += 1
        model, number = body["model"], self._replies
        progress = progress_of(body["input"])
        tools = [(tool["name"], tool.get("parameters", {})) for tool in body.get("tools", ())]
        items: list[Json] = []
        if personality.reasons:
            text = f"{model} {number}"
            encrypted = (
                f"{text.encode().hex()}.{signature(model, number, self._key)}"
                if _ENCRYPTED in body["include"]
                else None
            )
            summary = ["Thinking it over.", "Then this."] if (body.get("reasoning") or {}).get("summary") else ()
            items.append(responses.reasoning(_id("rs", number), encrypted, summary=summary))
        calls = self._model.calls(progress, tools)
        for place, call in enumerate(calls):
            ids = _id("fc", number, place), f"call_{signature('call', number, place)[:24]}"
            items.append(responses.function_call(*ids, call.name, call.arguments))
        if not calls:
            answer = self._model.answer(progress)
            items.append(responses.message(_id("msg", number), answer, phase="final_answer"))
        self._sent |= {item["id"]: items for item in items}
        if personality.reasons:
            made = [item["call_id"] for item in items if item["type"] == "function_call"]
            self._made |= dict.fromkeys(made, (model, items))
        return responses.events(*items, model=model)


def progress_of(items: Sequence[Json]) -> Progress:
    last = max((index for index, item in enumerate(items) if item.get("role") == "user"), default=0)
    after = items[last + 1 :]
    # The calls of a turn stand side by side.
    turns = sum(
        1
        for before, item in zip(items[last:], after, strict=False)
        if item.get("type") == "function_call" and before.get("type") != "function_call"
    )
    outputs = [str(item["output"]) for item in after if item.get("type") == "function_call_output"]
    return Progress(_text(items[last].get("content", "")), turns, outputs)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _id(kind: str, *parts: int) -> str:
    return f"{kind}_{signature(kind, *parts)[:48]}"


def _same(item: Json, original: Json) -> bool:
    """Whether it is the item that was sent; its status may be left out. A call's name and arguments that no request may
    have come back mended.
    """
    if original["type"] == "function_call":
        original = dict(original)
        if not NAME.fullmatch(original["name"]):
            original["name"] = item.get("name")
        if not is_object(original["arguments"]):
            original["arguments"] = item.get("arguments")
    return item | {"status": None} == original | {"status": None}


def _check_form(item: Json, where: str) -> str:
    """The item's type, once what it holds is of that type."""
    kind = item.get("type") or ("message" if "role" in item else "")
    if kind not in _FIELDS:
        raise Refusal(f"Invalid value: '{kind}'.", where, "invalid_value")
    refuse_unknown(item, _FIELDS[kind], where)
    match kind:
        case "message":
            if item.get("role") not in ("user", "assistant", "system", "developer"):
                raise Refusal(f"Invalid value: '{item.get('role')}'.", f"{where}.role", "invalid_value")
            check_text(item.get("content"), f"{where}.content")
        case "function_call":
            check_name(item.get("name"), f"{where}.name")
            check_arguments(item.get("arguments"), f"{where}.arguments")
            _check_call_id(item, where)
        case "function_call_output":
            if not isinstance(item.get("output"), (str, list)):
                raise Refusal(f"Missing required parameter: '{where}.output'.", f"{where}.output")
            _check_call_id(item, where)
        case "reasoning" if not isinstance(item.get("summary"), list):
            raise Refusal(f"Missing required parameter: '{where}.summary'.", f"{where}.summary")
    return str(kind)


def _check_call_id(item: Json, where: str) -> None:
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not 0 < len(call_id) <= 64:
        told = f"Invalid '{where}.call_id': expected a string of 1 to 64 characters."
        raise Refusal(told, f"{where}.call_id", "string_above_max_length")


def _check_tool(tool: Json, where: str) -> None:
    refuse_unknown(tool, frozenset({"type", "name", "description", "parameters", "strict"}), where)
    if tool.get("type") != "function":
        raise Refusal(f"Invalid value: '{tool.get('type')}'.", f"{where}.type", "invalid_value")
    check_name(tool.get("name"), f"{where}.name")
    schema = tool.get("parameters") or {}
    if tool.get("strict") is not False and schema.get("additionalProperties") is not False:  # strict unless told
        told = f"Invalid schema for function '{tool['name']}': 'additionalProperties' is required to be supplied"
        raise Refusal(f"{told} and to be false.", f"{where}.parameters", "invalid_function_parameters")

"""Reads a reply of the Responses API, as events or one document, into a ModelReply.

A reply is a list of output items: reasoning, messages, function calls. Parts of an item that arrive before its end are
live text. The list is sent back with the next request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from agent_service.llm.base import ModelReply
from agent_service.llm.openai.body import finish as finishes
from agent_service.llm.openai.body.events import DONE, BrokenReplyError, InBandError, lines_of, parsed, values_of
from agent_service.llm.openai.body.in_band import complains, error_in, no_answer
from agent_service.llm.openai.body.text_pieces import TextPieces, whole_characters
from agent_service.llm.openai.body.usage import usage_in, usage_of
from agent_service.llm.openai.chat.call_pieces import call_name
from agent_service.llm.openai.chat.reply import MODEL_NAME_MAX, TEXT_PARTS
from agent_service.llm.openai.provider_state import StateKeeper
from agent_service.llm.openai.responses.output_items import CALL, MESSAGE, OutputItems, of_type
from agent_service.llm.token_counts import utf8_length
from agent_service.schemas.output_schema import without_thoughts
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall

Json = dict[str, Any]

# Fields of a message and of a call that can be sent again without the item itself.
_PLAIN = frozenset({"id", "type", "status", "role", "content", "call_id", "name", "arguments"})


class ResponsesAssembler:
    """Assembles one reply. `is_done`: nothing that matters is still to come."""

    __slots__ = (
        "_call_bytes",
        "_finish",
        "_finish_word",
        "_has_junk",
        "_is_over",
        "_items",
        "_keeper",
        "_model",
        "_text_bytes_done",
        "_usage",
        "is_done",
        "reasoning",
        "text",
    )

    def __init__(self, keeper: StateKeeper | None = None) -> None:
        self.is_done = False
        self._keeper = keeper
        self._call_bytes = 0
        self._finish: FinishReason.ValueType | None = None
        self._finish_word = ""
        self._has_junk = False
        self._is_over = False
        self._items = OutputItems()
        self._model = ""
        self.reasoning = TextPieces()
        self.text = TextPieces()
        self._text_bytes_done = 0
        self._usage: Json = {}

    @property
    def has_output(self) -> bool:
        """Return whether the model has written something: text, reasoning or calls."""
        return self._output_bytes > 0 or bool(self._items)

    @property
    def has_finished(self) -> bool:
        """Return whether the final event has arrived: then the reply is complete."""
        return self._finish is not None

    @property
    def _output_bytes(self) -> int:
        return self.text.bytes + self.reasoning.bytes + self._call_bytes

    def add_event(self, data: bytes) -> None:
        """Add the data of one event. Events after the end of the response are ignored.

        Raises:
            BrokenReplyError: the model broke off. InBandError: the event is an error.
        """
        if self.is_done or not data:
            return
        if data == DONE:
            self.is_done = self._is_over = True
            return
        try:
            event = parsed(data)
        except ValueError:
            lines = lines_of(data)
            self._has_junk = self._has_junk or not lines
            for line in lines:
                self.add_event(line)
            return
        for each in event if isinstance(event, list) else (event,):
            if isinstance(each, dict):
                self._add(each)
            else:
                self._has_junk = True

    def _add(self, event: Json) -> None:
        kind = event.get("type")
        if kind == "response.output_text.delta":  # the common case
            if isinstance(delta := event.get("delta"), str):
                self.text.add(delta)
            return
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is not None:
            handler(self, event)
        elif error := error_in(event):
            raise InBandError(error)

    def add_document(self, data: bytes) -> None:
        """Add the whole reply of a server that does not stream. Raises as `add_event` does."""
        values = values_of(data)
        if len(values) > 1:  # events, one per line
            for event in values:
                self._add(event)
            return
        self._end_with(values[0])

    def reply(self, *, input_bytes: int, calls_before: int, model_id: str) -> ModelReply:
        """Return the whole reply; parameters and errors are those of `ReplyAssembler.reply`."""
        finish, items = self._ended(), self._items.ordered()
        calls = [_call(item, number) for number, item in enumerate(of_type(items, CALL), calls_before + 1)]
        text = _text_of(items) or self.text.whole()
        if calls and finish == finishes.STOP:
            finish = finishes.TOOL_CALLS
        if any(item.get("status") == "incomplete" for item in of_type(items, CALL)):
            finish = finishes.LENGTH
        if not calls and not without_thoughts(text) and finish != finishes.FILTERED:
            raise no_answer(finish)
        reply = ModelReply(text, calls, finish, self.usage(input_bytes), self._model or model_id)
        if self._finish_word:
            reply.remarks["unknown_finish"] = finishes.loggable(self._finish_word)
        # The items of a truncated reply are incomplete: it is sent back as its text and its calls.
        is_whole = finish in (finishes.STOP, finishes.TOOL_CALLS)
        if self._keeper is not None and is_whole and any(map(_says_more, items)):
            reply.provider_state = self._keeper.packed({"items": items})
            if not reply.provider_state:
                reply.remarks["provider_state"] = "too large, dropped"
        return reply

    def usage(self, input_bytes: int) -> Usage:
        """Return the usage that the provider reported, else an estimate, also for a reply that broke off."""
        return usage_of(self._usage, input_bytes=input_bytes, output_bytes=self._output_bytes)

    def _ended(self) -> FinishReason.ValueType:
        if self._finish == finishes.STOP and self._items.has_open_call:
            raise BrokenReplyError("a tool call did not end")
        if self._finish is not None:
            return self._finish
        # Some gateways end with [DONE] alone: then the reply is complete if every item is.
        if self._is_over and self._items and not self._items.are_open and not self._has_junk:
            return finishes.STOP
        raise BrokenReplyError("it ended without response.completed")

    def _item_added(self, event: Json) -> None:
        self._items.begin(event)

    def _item_done(self, event: Json) -> None:
        self._items.end(event)

    def _arguments_delta(self, event: Json) -> None:
        if isinstance(delta := event.get("delta"), str):
            self._call_bytes += utf8_length(delta)
            self._items.add_arguments(event, delta)

    def _arguments_done(self, event: Json) -> None:
        if isinstance(arguments := event.get("arguments"), str):
            self._items.end_arguments(event, arguments)

    def _text_done(self, event: Json) -> None:
        """A text at its end, which some servers send in place of its pieces."""
        if self.text.bytes == self._text_bytes_done and isinstance(text := event.get("text"), str):
            self.text.add(text)
        self._text_bytes_done = self.text.bytes

    def _refusal_delta(self, event: Json) -> None:
        if isinstance(delta := event.get("delta"), str):
            self.text.add(delta)

    def _reasoning_delta(self, event: Json) -> None:
        if isinstance(delta := event.get("delta"), str):
            self.reasoning.add(delta)

    def _reasoning_part(self, _: Json) -> None:
        if self.reasoning.bytes:
            self.reasoning.add("\n\n")

    def _ended_event(self, event: Json) -> None:
        response = event.get("response")
        if not isinstance(response, dict):
            if error := error_in(event):
                raise InBandError(error)
            raise BrokenReplyError("its last event has no response")
        kind: str = event["type"]
        self._usage = usage_in(event) or {}
        self._end_with(response, kind.removeprefix("response."))

    def _end_with(self, response: Json, kind: str = "") -> None:
        """Read the final version of the response. `kind` is the name of the event that has it."""
        if isinstance(model := response.get("model"), str):
            self._model = whole_characters(model[:MODEL_NAME_MAX])
        self._usage = usage_in(response) or self._usage
        self._items.end_all(response.get("output"))
        if not self.text.bytes and (text := _text_of(self._items.ordered())):
            self.text.add(text)  # of a document, and of servers whose text does not come in pieces
        self.is_done = True
        match self._end_of(response, kind):
            case "completed":
                self._finish = finishes.STOP
            case "incomplete":
                self._finish = self._cut_by(_reason_in(response))
            case "failed":
                raise InBandError(response.get("error") or {"code": "server_error"})
            case "cancelled" | "queued" | "in_progress":
                raise BrokenReplyError("the response was not finished")
            case _:
                if complains(response):
                    raise InBandError(response)
                raise BrokenReplyError("it is not a response")

    def _end_of(self, response: Json, kind: str) -> str:
        """Return how the response ended: the worst outcome of its event, its status and its details.

        Raises:
            InBandError: the response is an error.
        """
        status = response.get("status")
        if "failed" in (kind, status):
            return "failed"
        if error := error_in(response):
            raise InBandError(error)
        if _reason_in(response) or "incomplete" in (kind, status):
            return "incomplete"
        if status == "cancelled" or kind not in ("", "done"):
            return "cancelled" if status == "cancelled" else kind
        return status if isinstance(status, str) and status else "completed" if self._items else ""

    def _cut_by(self, reason: str) -> FinishReason.ValueType:
        finish = finishes.finish_of(reason)
        if finish == finishes.UNKNOWN:
            self._finish_word = reason
        return finishes.FILTERED if finish == finishes.FILTERED else finishes.LENGTH

    def _error(self, event: Json) -> None:
        raise InBandError(event.get("error") or event)


_HANDLERS: Mapping[str, Callable[[ResponsesAssembler, Json], None]] = MappingProxyType(
    {
        "error": ResponsesAssembler._error,
        "response.cancelled": ResponsesAssembler._ended_event,
        "response.completed": ResponsesAssembler._ended_event,
        "response.done": ResponsesAssembler._ended_event,
        "response.failed": ResponsesAssembler._ended_event,
        "response.function_call_arguments.delta": ResponsesAssembler._arguments_delta,
        "response.function_call_arguments.done": ResponsesAssembler._arguments_done,
        "response.incomplete": ResponsesAssembler._ended_event,
        "response.output_item.added": ResponsesAssembler._item_added,
        "response.output_item.done": ResponsesAssembler._item_done,
        "response.output_text.done": ResponsesAssembler._text_done,
        "response.reasoning_summary_part.added": ResponsesAssembler._reasoning_part,
        "response.reasoning_summary_text.delta": ResponsesAssembler._reasoning_delta,
        "response.reasoning_text.delta": ResponsesAssembler._reasoning_delta,
        "response.refusal.delta": ResponsesAssembler._refusal_delta,
    }
)


def _reason_in(response: Json) -> str:
    """Return the reason why a response is incomplete; "" if it gives none."""
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else ""


def _text_of(items: list[Json]) -> str:
    """Return the text of all messages, concatenated."""
    texts: list[str] = []
    for item in of_type(items, MESSAGE):
        content = item.get("content")
        if isinstance(content, str):
            texts.append(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in (None, *TEXT_PARTS):
                text = part.get("text") or part.get("refusal")
                texts.append(text if isinstance(text, str) else "")
    return whole_characters("".join(texts))


def _call(item: Json, number: int) -> ToolCall:
    name, arguments = item.get("name"), item.get("arguments")
    if not isinstance(name, str) or not call_name(name):
        raise BrokenReplyError("a tool call has no name")
    if arguments is not None and not isinstance(arguments, str):
        arguments = orjson.dumps(arguments).decode()
    call_id = item.get("call_id") or item.get("id")
    return ToolCall(
        id=whole_characters(call_id) if isinstance(call_id, str) else f"call_{number}",
        name=call_name(name),
        arguments_json=whole_characters(arguments or ""),
    )


def _says_more(item: Json) -> bool:
    """Return whether an item has more than its text or its call."""
    return item.get("type") not in (MESSAGE, CALL) or not _PLAIN.issuperset(
        name for name, value in item.items() if value not in (None, [], "")
    )

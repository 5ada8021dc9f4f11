"""Reads the body of a Chat Completions reply: server-sent events, or one JSON document, into a ModelReply.

Knows bytes and JSON, no network and no time. Believes nothing: what a reply lacks or breaks is a BrokenReplyError, what
the provider itself reports in the middle of a stream is an InBandError.

Event streams are read by the WHATWG rules, save that a lone CR ends no line and that an event cut off by the end of the
stream still counts (some servers send no empty line after the last). `event:` names are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from agent_service.llm.base import ModelReply
from agent_service.llm.openai.call_pieces import BrokenReplyError, ToolCallDeltas, text_of
from agent_service.llm.tokens import tokens_in, utf8_length
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.task_pb2 import Usage

LINE_BYTES_MAX = 1024 * 1024
REPLY_BYTES_MAX = 64 * 1024 * 1024  # 300 bytes of JSON around every token: about 200,000 tokens
MODEL_NAME_MAX = 128
TOKENS_MAX = 10**12

_STOP = FinishReason.FINISH_REASON_STOP
_TOOL_CALLS = FinishReason.FINISH_REASON_TOOL_CALLS
_UNKNOWN = FinishReason.FINISH_REASON_UNSPECIFIED
_FINISH_REASONS: Mapping[str, FinishReason.ValueType] = MappingProxyType(
    {
        "stop": _STOP,
        "tool_calls": _TOOL_CALLS,
        "length": FinishReason.FINISH_REASON_LENGTH,
        "content_filter": FinishReason.FINISH_REASON_CONTENT_FILTER,
    }
)


class InBandError(Exception):
    """The provider reports an error in a reply that began as a success. `body` is its error, as it is."""

    def __init__(self, body: object) -> None:
        super().__init__("the provider reports an error inside its reply")
        self.body = body


class EventReader:
    """Splits a byte stream into the data of its events. Feed what the network gives, in pieces of any size."""

    __slots__ = ("_bytes", "_data", "_rest", "_rest_bytes")

    def __init__(self) -> None:
        self._bytes = 0
        self._data: list[bytes] = []  # lines of the event that is being read
        self._rest: list[bytes] = []  # pieces of the line that is being read
        self._rest_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that this piece completes.

        Raises:
            BrokenReplyError: a line, or the whole, is too long.
        """
        if not self._bytes:
            piece = piece.removeprefix(b"\xef\xbb\xbf")
        self._bytes += len(piece)
        if self._bytes > REPLY_BYTES_MAX:
            raise BrokenReplyError("it is too long", retryable=False)
        lines = piece.split(b"\n")
        if self._rest and len(lines) > 1:
            lines[0] = b"".join((*self._rest, lines[0]))
            self._rest, self._rest_bytes = [], 0
        rest = lines.pop()
        if rest:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
            if self._rest_bytes > LINE_BYTES_MAX:
                raise BrokenReplyError("a line of its event stream is too long", retryable=False)
        return self._events(lines) if lines else []

    def finish(self) -> list[bytes]:
        """The data of the event that the end of the stream cut off, if any."""
        lines = [b"".join(self._rest), b""]
        self._rest = []
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                if len(line) > LINE_BYTES_MAX:
                    raise BrokenReplyError("a line of its event stream is too long", retryable=False)
                data.append(line[5:].strip(b" \r"))
            elif data and (not line or line == b"\r"):
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
        return events


class ReplyAssembler:
    """Puts one reply together from its chunks, the way the API's reference describes them.

    `is_done`: the stream said `[DONE]`. `has_output`: the model has written something, text, reasoning or calls.
    """

    __slots__ = ("_calls", "_finish", "_model", "_new_text", "_text", "_text_bytes", "_usage", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._calls = ToolCallDeltas()
        self._finish: str | None = None
        self._model = ""
        self._new_text: list[str] = []
        self._text_bytes = 0
        self._text: list[str] = []
        self._usage: Mapping[str, Any] | None = None

    @property
    def has_output(self) -> bool:
        return self._output_bytes > 0 or self._finish is not None

    @property
    def _output_bytes(self) -> int:
        return self._text_bytes + self._calls.bytes

    def add_event(self, data: bytes) -> None:
        """Take in the data of one event. What follows `[DONE]` is not looked at.

        Raises:
            BrokenReplyError: it is not a chunk of a chat completion. InBandError: it is an error.
        """
        if self.is_done:
            return
        if data == b"[DONE]":
            self.is_done = True
            return
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise BrokenReplyError("an event is not JSON in UTF-8") from exc
        self._add_chunk(chunk, "delta")

    def add_document(self, data: bytes) -> None:
        """Take in the whole reply of a server that does not stream. Raises what `add_event` does."""
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise BrokenReplyError("it is not JSON in UTF-8") from exc
        self._add_chunk(document, "message")
        self.is_done = True

    def take_text(self) -> str:
        """The text since the last call; empty if there is none."""
        if not self._new_text:
            return ""
        text = self._new_text[0] if len(self._new_text) == 1 else "".join(self._new_text)
        self._text.append(text)
        self._new_text.clear()
        return text

    def reply(self, *, input_bytes: int, calls_before: int, model_id: str) -> ModelReply:
        """The whole reply; all text has been taken.

        `input_bytes` is what the request carried, for the estimate of its tokens where the provider reports none.
        Calls without an id become `call_<n>`, n counting on from `calls_before`. A provider that does not name its
        model answered as `model_id`.

        Raises:
            BrokenReplyError: it is not whole, or asks for tools in a way that nobody could follow.
        """
        if self._finish is None:
            raise BrokenReplyError("it ended without a finish reason")
        if not self.is_done:
            raise BrokenReplyError("its event stream ended without [DONE]")
        calls = self._calls.calls(calls_before)
        finish = _FINISH_REASONS.get(self._finish, _UNKNOWN)
        if finish == _TOOL_CALLS and not calls:
            raise BrokenReplyError("it finished for tool calls and has none")
        if calls and finish in (_STOP, _UNKNOWN):
            finish = _TOOL_CALLS  # Ollama and others say "stop"
        return ModelReply("".join(self._text), calls, finish, self.usage(input_bytes), self._model or model_id)

    def usage(self, input_bytes: int) -> Usage:
        """What the provider reported, else an estimate, which a reply that broke off has too."""
        # What servers report before the end counts only so far. No request has 0 tokens: some report 0 for not counted.
        reported = self._usage if self._usage and self._finish else {}
        read = _count(reported, "prompt_tokens")
        written = _count(reported, "completion_tokens")
        if not read or written is None or (not written and self._output_bytes):
            return Usage(
                input_tokens=tokens_in(input_bytes), output_tokens=tokens_in(self._output_bytes), estimated=True
            )
        # Some providers leave reasoning out of `completion_tokens` and have it in the total only.
        written = max(written, (_count(reported, "total_tokens") or 0) - read)
        cached = _count(reported.get("prompt_tokens_details"), "cached_tokens") or 0
        reasoning = _count(reported.get("completion_tokens_details"), "reasoning_tokens") or 0
        return Usage(
            input_tokens=read,
            cached_input_tokens=min(cached, read),
            output_tokens=written,
            reasoning_tokens=min(reasoning, written),
        )

    def _add_chunk(self, chunk: object, part: str) -> None:
        if not isinstance(chunk, dict):
            raise BrokenReplyError("a chunk is not a JSON object")
        if error := chunk.get("error"):
            raise InBandError(error)
        if usage := chunk.get("usage"):
            if not isinstance(usage, dict):
                raise BrokenReplyError("its usage is not a JSON object")
            self._usage = usage  # servers that report in every chunk count up
        if not self._model:
            self._model = text_of(chunk, "model")[:MODEL_NAME_MAX]
        choices = chunk.get("choices")
        if not choices:  # the chunk with the usage, Azure's with its filter's results, a keep-alive
            return
        if not isinstance(choices, list):
            raise BrokenReplyError("its choices are not a list")
        for choice in choices:
            if not isinstance(choice, dict):
                raise BrokenReplyError("a choice is not a JSON object")
            if not choice.get("index"):  # one is asked for; a server that sends more is not listened to
                self._add_choice(choice, part)

    def _add_choice(self, choice: dict[str, Any], part: str) -> None:
        delta = choice.get(part)
        if delta:
            if not isinstance(delta, dict):
                raise BrokenReplyError(f"a {part} is not a JSON object")
            content = delta.get("content") or delta.get("refusal")
            if content:
                text = content if isinstance(content, str) else _text_of_parts(content)
                self._new_text.append(text)
                self._text_bytes += utf8_length(text)
            if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
                self._text_bytes += utf8_length(str(reasoning))  # counted, not kept
            if calls := delta.get("tool_calls"):
                self._calls.add(calls, are_whole=part == "message")
        if finish := choice.get("finish_reason"):
            if finish == "error":  # OpenRouter's, beside an error that it may have told or not
                raise BrokenReplyError("the model broke off with an error")
            self._finish = str(finish)


def _text_of_parts(content: object) -> str:
    """The text in a list of content parts: some servers send one in place of a string."""
    if not isinstance(content, list):
        raise BrokenReplyError("a content is not text")
    return "".join(text_of(part, "text") for part in content if isinstance(part, dict) and part.get("type") == "text")


def _count(counts: object, name: str) -> int | None:
    """A count of tokens; None if it is missing or no such thing."""
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None

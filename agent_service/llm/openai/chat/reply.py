"""Reads a reply of Chat Completions, as chunks or one document, into a ModelReply.

Lenient where every client is: unused fields cannot invalidate a reply, and invalid chunks are skipped if the stream
ends properly. Strict where an error could do harm: a reply that is not known to be complete is rejected.
"""

from __future__ import annotations

from typing import Any

from agent_service.llm.base import ModelReply
from agent_service.llm.openai.body import finish as finishes
from agent_service.llm.openai.body.events import DONE, BrokenReplyError, InBandError, lines_of, parsed, values_of
from agent_service.llm.openai.body.in_band import ERROR_HOLDERS, complains, error_in, no_answer
from agent_service.llm.openai.body.text_pieces import TextPieces, whole_characters
from agent_service.llm.openai.body.usage import USAGE_HOLDERS, add_usage, usage_in, usage_of
from agent_service.llm.openai.chat.call_pieces import Opaque, ToolCallPieces, merge
from agent_service.llm.openai.provider_state import StateKeeper
from agent_service.schemas.output_schema import without_thoughts
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.task_pb2 import Usage

MODEL_NAME_MAX = 128

# Fields that our own messages have, or that no provider expects back.
_KNOWN = frozenset(
    {
        "annotations",
        "audio",
        "channel",
        "citations",
        "content",
        "content_filter_offsets",
        "content_filter_results",
        "context",
        "created",
        "executed_tools",
        "finish_reason",
        "function_call",
        "id",
        "index",
        "logprobs",
        "model",
        "name",
        "object",
        "refusal",
        "role",
        "search_results",
        "stop_reason",
        "timings",
        "token_ids",
        "tool_calls",
        "usage",
    }
)
# Fields that most chunks and choices lack; they are read only if at least one is present.
_ODD_IN_CHUNKS = frozenset({"error", "type", *ERROR_HOLDERS, *USAGE_HOLDERS})
_ODD_IN_CHOICES = frozenset({"message", "usage", "finishReason", *USAGE_HOLDERS})
_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_SAID = frozenset({"content", "refusal", "tool_calls", "function_call"})
TEXT_PARTS = frozenset({"text", "output_text", "refusal"})


class ReplyAssembler:
    """Assembles one reply. `is_done`: nothing that matters is still to come."""

    __slots__ = (
        "_calls",
        "_complaint",
        "_finish",
        "_finish_word",
        "_has_junk",
        "_is_document",
        "_keeper",
        "_message_bytes",
        "_model",
        "_opaque",
        "_opaque_texts",
        "_usage",
        "_writes_on",
        "is_done",
        "reasoning",
        "text",
    )

    def __init__(self, keeper: StateKeeper | None = None) -> None:
        self.is_done = False
        self._keeper = keeper
        self._calls = ToolCallPieces()
        self._complaint: Opaque | None = None
        self._finish: FinishReason.ValueType | None = None
        self._finish_word = ""
        self._has_junk = False
        self._is_document = False
        self._message_bytes = 0  # of the output that did not come in pieces
        self._model = ""
        self._opaque: Opaque = {}
        self._opaque_texts: dict[str, list[str]] = {}
        self.reasoning = TextPieces()
        self.text = TextPieces()
        self._usage: dict[str, Any] = {}
        self._writes_on = False  # after a finish: some servers send one with every chunk, where it means nothing

    @property
    def has_output(self) -> bool:
        """Return whether the model has written something: text, reasoning or calls."""
        return self._output_bytes > 0 or bool(self._opaque) or self._finish is not None

    @property
    def has_finished(self) -> bool:
        """Return whether the finish reason has arrived; only the usage may follow it."""
        return self._finish not in (None, finishes.UNKNOWN) and not self._writes_on

    @property
    def _output_bytes(self) -> int:
        return self.text.bytes + self.reasoning.bytes + self._calls.bytes

    def add_event(self, data: bytes) -> None:
        """Add the data of one event. Events after `[DONE]` are ignored.

        Raises:
            BrokenReplyError: the model broke off. InBandError: the event is an error.
        """
        if self.is_done or not data:
            return
        if data == DONE:
            self.is_done = True
            return
        try:
            chunk = parsed(data)
        except ValueError:
            lines = lines_of(data)
            self._has_junk = self._has_junk or not lines
            for line in lines:
                self.add_event(line)
            return
        for each in chunk if isinstance(chunk, list) else (chunk,):
            if isinstance(each, dict):
                self._add_chunk(each)
            else:
                self._has_junk = True

    def add_document(self, data: bytes) -> None:
        """Add the whole reply of a server that does not stream. Raises as `add_event` does."""
        values = values_of(data)
        for value in values:
            self._add_chunk(value)
        self.is_done = len(values) == 1  # else chunks, which end as those of a stream
        self._is_document = self.is_done and bool(values[0].get("choices"))

    def reply(self, *, input_bytes: int, calls_before: int, model_id: str) -> ModelReply:
        """Return the whole reply.

        `input_bytes` is the size of the request, for an estimate of its tokens if the provider reports none. Calls
        without an id become `call_<n>`, with n from `calls_before` + 1. `model_id` stands in for a model that the
        provider does not name.

        Raises:
            BrokenReplyError: the reply is incomplete, or its tool calls are invalid. NoAnswerError: the reply is empty.
        """
        finish, calls, text = self._ended(), self._calls.calls(calls_before), self.text.whole()
        if finish == finishes.TOOL_CALLS and not calls:
            raise BrokenReplyError("its finish reason is tool calls, and it has none")
        if calls and finish == finishes.STOP:
            finish = finishes.TOOL_CALLS  # Ollama and others say "stop"
        if not calls and not without_thoughts(text) and finish != finishes.FILTERED:
            raise no_answer(finish)
        reply = ModelReply(text, calls, finish, self.usage(input_bytes), self._model or model_id)
        if finish == finishes.UNKNOWN:
            reply.remarks["unknown_finish"] = finishes.loggable(self._finish_word)
        if self._keeper is not None and (fields := self._opaque_fields()):
            reply.provider_state = self._keeper.packed(fields)
            if not reply.provider_state:
                reply.remarks["provider_state"] = "too large, dropped"
        return reply

    def usage(self, input_bytes: int) -> Usage:
        """Return the usage that the provider reported, else an estimate, also for a reply that broke off."""
        # Usage that is reported before the end is partial.
        reported = self._usage if self._finish is not None or self.is_done else {}
        return usage_of(reported, input_bytes=input_bytes, output_bytes=self._output_bytes)

    def _ended(self) -> FinishReason.ValueType:
        """Return the finish reason of the reply.

        Raises:
            BrokenReplyError, InBandError: the reply is not known to be complete.
        """
        if self._finish is not None:
            return self._finish
        # A document is complete, and so is a stream with an end marker, if all of it could be read.
        if self._is_document or (self.is_done and self._output_bytes and not self._has_junk):
            return finishes.STOP
        if self._complaint is not None:
            raise InBandError(self._complaint)
        raise BrokenReplyError("it ended without a finish reason")

    def _opaque_fields(self) -> Opaque:
        texts = {name: "".join(pieces) for name, pieces in self._opaque_texts.items()}
        message = self._opaque | {name: text for name, text in texts.items() if text}
        fields: Opaque = {"message": message} if message else {}
        if calls := self._calls.opaque():
            fields["calls"] = calls
        return fields

    def _add_chunk(self, chunk: Opaque) -> None:
        is_plain = _ODD_IN_CHUNKS.isdisjoint(chunk) and chunk.get("object") != "error"
        if not is_plain and (error := error_in(chunk)):
            raise InBandError(error)
        if (chunk.get("usage") or not is_plain) and (usage := usage_in(chunk)):
            add_usage(self._usage, usage)
        choices = chunk.get("choices")
        if not self._model and isinstance(model := chunk.get("model"), str):
            self._model = whole_characters(model[:MODEL_NAME_MAX])
        if not choices:  # the chunk with the usage, Azure's with its filter's results, a keep-alive
            if complains(chunk):
                self._complaint, self._has_junk = chunk, True
            return
        for choice in choices if isinstance(choices, list) else (choices,):
            if not isinstance(choice, dict):
                self._has_junk = True
            elif not (index := choice.get("index")) or index == "0":  # one choice is requested; others are ignored
                self._add_choice(choice)

    def _add_choice(self, choice: Opaque) -> None:
        bytes_at_finish = self._output_bytes if self._finish is not None else None
        delta = choice.get("delta")
        if isinstance(delta, dict) and delta:
            self._add_delta(delta, are_whole=False)
        if bytes_at_finish is None and not choice.get("finish_reason") and _ODD_IN_CHOICES.isdisjoint(choice):
            return  # the common case
        if isinstance(message := choice.get("message"), dict):
            self._add_message(message)
        if bytes_at_finish is not None and self._output_bytes > bytes_at_finish:
            self._writes_on = True
        if usage := usage_in(choice):
            add_usage(self._usage, usage)
        if isinstance(word := choice.get("finish_reason") or choice.get("finishReason"), str):
            if error := error_in(choice):
                raise InBandError(error)
            if (finish := finishes.finish_of(word)) is not None:
                self._finish, self._finish_word = finishes.after(self._finish, finish), word

    def _add_message(self, message: Opaque) -> None:
        """Add a whole message. After pieces it repeats them: only what they lacked is added."""
        bytes_before = self._output_bytes
        if bytes_before > self._message_bytes:
            taken = {"tool_calls", "function_call"} if self._calls.bytes else set[str]()
            taken |= {"content", "refusal"} if self.text.bytes else set()
            message = {name: value for name, value in message.items() if name in _SAID and name not in taken}
        self._add_delta(message, are_whole=True)
        self._message_bytes += self._output_bytes - bytes_before

    def _add_delta(self, delta: Opaque, *, are_whole: bool) -> None:
        content = delta.get("content") or delta.get("refusal")
        if isinstance(content, str):
            self.text.add(content)
        elif content:
            self._add_parts(content)
        if calls := delta.get("tool_calls"):
            self._calls.add(calls, are_whole=are_whole)
        elif call := delta.get("function_call"):
            self._calls.add([{"function": call}], are_whole=are_whole)
        if not _KNOWN.issuperset(delta):
            for name in _REASONING:
                if isinstance(reasoning := delta.get(name), str) and reasoning:
                    self.reasoning.add(reasoning)
                    break
            for name, value in delta.items():
                if name in _KNOWN:
                    continue
                if isinstance(value, str):  # joined at the end: a long reasoning has many pieces
                    self._opaque_texts.setdefault(name, []).append(value)
                else:
                    merge(self._opaque, {name: value}, _KNOWN)

    def _add_parts(self, content: object) -> None:
        """Add the parts of a text: some servers send a list, or a part without its list."""
        for part in content if isinstance(content, list) else (content,):
            if isinstance(part, str):
                self.text.add(part)
            elif isinstance(part, dict):
                self._add_part(part)

    def _add_part(self, part: Opaque) -> None:
        kind = part.get("type")
        text = part.get("text") or part.get("refusal") or part.get("thinking")
        if isinstance(text, list):
            text = "".join(
                each["text"] for each in text if isinstance(each, dict) and isinstance(each.get("text"), str)
            )
        if not isinstance(text, str) or not text:
            return
        if kind is None or kind in TEXT_PARTS:
            self.text.add(text)
        else:
            self.reasoning.add(text)

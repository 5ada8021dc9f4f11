"""One reply, read twice: by our assemblers and by the accumulation of OpenAI's own package.

Both get the same bytes. The package reads them as its users have it: its client, its decoder of event streams, its
helper that puts a stream together; only the network is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx2
from openai import OpenAI
from openai.types.responses import Response, ResponseCompletedEvent, ResponseIncompleteEvent

from agent_service.llm.openai.body.events import EventReader
from agent_service.llm.openai.chat.reply import ReplyAssembler
from agent_service.llm.openai.model import Assembler
from agent_service.llm.openai.responses.reply import ResponsesAssembler
from agent_service.v1.task_event_pb2 import (
    FINISH_REASON_CONTENT_FILTER,
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_TOOL_CALLS,
)

_FINISH = {
    FINISH_REASON_STOP: "stop",
    FINISH_REASON_TOOL_CALLS: "tool_calls",
    FINISH_REASON_LENGTH: "length",
    FINISH_REASON_CONTENT_FILTER: "content_filter",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read. Calls are id, name and arguments; usage is input, cached, output and reasoning tokens."""

    text: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    finish: str = "stop"
    usage: tuple[int, int, int, int] = (0, 0, 0, 0)


def read_by_us(assembler: Assembler, body: bytes, cuts: Sequence[int] = ()) -> Reading:
    """As the adapter reads it, the network cutting it at `cuts`."""
    reader, shown = EventReader(), []
    ends = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for piece in (*(body[start:end] for start, end in pairwise(ends)), None):
        for event in reader.feed(piece) if piece is not None else reader.finish():
            assembler.add_event(event)
        shown.append(assembler.text.take())
        if assembler.is_done:
            break
    reply = assembler.reply(input_bytes=0, calls_before=0, model_id="unnamed")
    assert "".join(shown) == reply.text  # watchers have seen what is journaled
    calls = tuple((call.id, call.name, call.arguments_json) for call in reply.tool_calls)
    used = reply.usage
    assert not used.estimated
    tokens = (used.input_tokens, used.cached_input_tokens, used.output_tokens, used.reasoning_tokens)
    return Reading(reply.text, calls, _FINISH[reply.finish_reason], tokens)


def read_chat_by_us(body: bytes, cuts: Sequence[int] = ()) -> Reading:
    return read_by_us(ReplyAssembler(), body, cuts)


def read_responses_by_us(body: bytes, cuts: Sequence[int] = ()) -> Reading:
    return read_by_us(ResponsesAssembler(), body, cuts)


class Package:
    """OpenAI's package in front of the bytes that a test gives it."""

    def __init__(self) -> None:
        self._body = b""
        transport = httpx2.MockTransport(self._answer)
        self._client = OpenAI(
            api_key="sk-test",
            base_url="http://provider/v1",
            max_retries=0,
            http_client=httpx2.Client(transport=transport, verify=False),
        )

    def _answer(self, _: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self._body)

    def read_chat(self, body: bytes) -> Reading:
        self._body = body
        options: Any = {"include_usage": True}
        completion: Any = None
        with self._client.chat.completions.stream(model="m", messages=[], stream_options=options) as stream:
            for event in stream:
                if event.type == "chunk":
                    completion = event.snapshot  # `get_final_completion` refuses one that was cut off
        choice, used = completion.choices[0], completion.usage
        message = choice.message
        prompt, written = used.prompt_tokens_details, used.completion_tokens_details
        return Reading(
            text=message.content or message.refusal or "",
            calls=tuple((one.id, one.function.name, one.function.arguments) for one in message.tool_calls or ()),
            finish=choice.finish_reason,
            usage=(
                used.prompt_tokens,
                (prompt and prompt.cached_tokens) or 0,
                used.completion_tokens,
                (written and written.reasoning_tokens) or 0,
            ),
        )

    def read_responses(self, body: bytes) -> Reading:
        self._body = body
        response: Response | None = None
        with self._client.responses.stream(model="m", input="") as stream:
            for event in stream:
                if isinstance(event, (ResponseCompletedEvent, ResponseIncompleteEvent)):
                    response = event.response
        assert response is not None
        return _read_response(response)


def _read_response(response: Response) -> Reading:
    calls = tuple((item.call_id, item.name, item.arguments) for item in response.output if item.type == "function_call")
    finish = "tool_calls" if calls else "stop"
    if response.status == "incomplete":
        reason = response.incomplete_details and response.incomplete_details.reason
        finish = {"max_output_tokens": "length"}.get(reason or "", reason or "")
    used = response.usage
    assert used is not None
    return Reading(
        text="".join(_texts(response)),
        calls=calls,
        finish=finish,
        usage=(
            used.input_tokens,
            used.input_tokens_details.cached_tokens,
            used.output_tokens,
            used.output_tokens_details.reasoning_tokens,
        ),
    )


def _texts(response: Response) -> Iterator[str]:
    for item in response.output:
        if item.type == "message":
            for part in item.content:
                yield part.text if part.type == "output_text" else part.refusal

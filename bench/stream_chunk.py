"""What a chunk of a model's stream costs to read, over both of OpenAI's APIs, measured in one run.

    make bench-chunks

Each stream is a text in deltas of one token as OpenAI frames them (a chunk of Chat Completions is 230 bytes or so, a
delta of the Responses API 200), read in pieces of 16 KiB by our event reader and the API's assembler, the text taken
after each piece; no network. Beside them the same deltas of a reasoning summary and of a call's arguments. Rounds
alternate. Prints the CPU of a chunk and the ratio of the first two.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent_service.llm.openai.body.events import EventReader
from agent_service.llm.openai.chat.reply import ReplyAssembler
from agent_service.llm.openai.model import Assembler
from agent_service.llm.openai.responses.reply import ResponsesAssembler

PIECE_BYTES = 16 * 1024


@dataclass
class Subject:
    """A stream: its assembler, its body, and what was measured."""

    name: str
    assembler: Callable[[], Assembler]
    body: bytes
    cpu_us: list[float] = field(default_factory=list)

    def measure(self, chunks: int) -> None:
        reader, assembler = EventReader(), self.assembler()
        pieces = [self.body[start : start + PIECE_BYTES] for start in range(0, len(self.body), PIECE_BYTES)]
        began = time.process_time()
        for piece in pieces:
            for event in reader.feed(piece):
                assembler.add_event(event)
            assembler.text.take()
            assembler.reasoning.take()
        self.cpu_us.append((time.process_time() - began) / chunks * 1e6)


def chat(delta: dict[str, Any], chunks: int) -> bytes:
    chunk = {
        "id": "chatcmpl-CJn4kQm8bD2sFvYcW7xPzT5aRgH9e",
        "object": "chat.completion.chunk",
        "created": 1796066631,
        "model": "gpt-6.2-sol",
        "service_tier": "default",
        "system_fingerprint": "fp_1a2b3c4d5e",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
        "usage": None,
        "obfuscation": "x7Kq2m",
    }
    return b"data: %b\n\n" % orjson.dumps(chunk) * chunks


def responses(kind: str, more: dict[str, Any], chunks: int) -> Iterator[bytes]:
    for number in range(chunks):
        event = {
            "type": kind,
            "item_id": "msg_0a184532f1c97b22006926f0a1b3c88193a5f7d2e4c6b8a0",
            "output_index": 1,
            **more,
            "delta": " token",
            "sequence_number": number,
            "obfuscation": "x7Kq2mPz",
        }
        yield b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(event))


def subjects(chunks: int) -> list[Subject]:
    call = {"tool_calls": [{"index": 0, "function": {"arguments": " token"}}]}
    text, summary, arguments = (
        "response.output_text.delta",
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
    )
    at_content = {"content_index": 0, "logprobs": []}
    return [
        Subject("Chat Completions, text", ReplyAssembler, chat({"content": " token"}, chunks)),
        Subject("Responses, text", ResponsesAssembler, b"".join(responses(text, at_content, chunks))),
        Subject("Chat Completions, reasoning", ReplyAssembler, chat({"reasoning_content": " token"}, chunks)),
        Subject("Responses, reasoning", ResponsesAssembler, b"".join(responses(summary, {"summary_index": 0}, chunks))),
        Subject("Chat Completions, arguments", ReplyAssembler, chat(call, chunks)),
        Subject("Responses, arguments", ResponsesAssembler, b"".join(responses(arguments, {}, chunks))),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    found = subjects(given.chunks)
    for subject in found:  # warm
        subject.measure(given.chunks)
        subject.cpu_us.clear()
    for _ in range(given.rounds):
        for subject in found:
            subject.measure(given.chunks)
    for subject in found:
        told = f"{statistics.median(subject.cpu_us):6.2f} us CPU a chunk (best {min(subject.cpu_us):.2f})"
        print(f"{subject.name:30} {told}, {len(subject.body) // given.chunks} bytes")
    first, second = (statistics.median(subject.cpu_us) for subject in found[:2])
    print(f"ratio Responses / Chat Completions: {second / first:.2f}")


if __name__ == "__main__":
    main()

"""Replies as the two APIs stream them, drawn at random: what is said, how it is cut up, and how it is framed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from hypothesis import strategies as st

from tests.fakes import provider as chat
from tests.fakes import responses

Json = dict[str, Any]

# Text of every plane, with what JSON escapes; no halves of surrogate pairs, which no UTF-8 can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
NAME = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
TOKENS = st.integers(1, 100_000)
# A model's arguments: most are an object, some are cut off in the middle.
_VALUE = st.one_of(st.integers(-9, 9), st.booleans(), st.none(), TEXT)
OBJECT = st.dictionaries(TEXT, _VALUE, max_size=3).map(lambda value: orjson.dumps(value).decode())
ARGUMENTS = st.one_of(OBJECT, OBJECT.map(lambda text: text[: len(text) // 2 or 1]))
CUTS = st.lists(st.integers(0, 100_000), max_size=6)


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, an empty one among them now and then."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def framed(draw: st.DrawFn, events: Sequence[tuple[str, bytes]]) -> bytes:
    """Named events as an event stream, in one of the ways that the format allows."""
    newline = draw(st.sampled_from((b"\n", b"\r\n")))
    space = draw(st.sampled_from((b" ", b"")))
    found = [b"\xef\xbb\xbf" if draw(st.integers(0, 9)) == 0 else b""]
    for name, data in events:
        if draw(st.integers(0, 9)) == 0:
            found += [b": keep-alive", newline, newline]
        if name:
            found += [b"event:", space, name.encode(), newline]
        found += [b"data:", space, data, newline, newline]
    return b"".join(found)


# How JSON is written: in UTF-8, or as Python and others write it, in ASCII.
JSON: st.SearchStrategy[Callable[[Json], bytes]] = st.sampled_from(
    (orjson.dumps, lambda value: json.dumps(value).encode())
)


# Chat Completions.


@st.composite
def chat_calls(draw: st.DrawFn) -> list[Json]:
    """The chunks of some calls, the pieces of each in order, those of different calls mixed."""
    count = draw(st.integers(1, 3))
    queues: list[list[Json]] = []
    for index in range(count):
        first, *rest = draw(pieces_of(draw(ARGUMENTS)))
        queue = [chat.tool_call(index, f"call_{index}", draw(NAME), first)]
        queue += [chat.tool_call(index, arguments=piece) for piece in rest]
        queues.append(queue)
    found = [queue.pop(0) for queue in queues]  # calls begin in the order of their indexes
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        found.append(queue.pop(0))
    return found


@st.composite
def chat_stream(draw: st.DrawFn) -> bytes:
    """A whole reply over Chat Completions."""
    said = draw(st.sampled_from(("content", "refusal", "")))
    calls = draw(chat_calls()) if not said or draw(st.booleans()) else []
    first: Json = {"role": "assistant", "content": draw(st.sampled_from(("", None)))}
    found = [chat.chunk(first)]
    if said:
        found += [chat.chunk({said: piece}) for piece in draw(pieces_of(draw(TEXT)))]
    found += calls
    finish = draw(st.sampled_from(("tool_calls" if calls else "stop", "length", "content_filter")))
    found.append(chat.finish(finish))
    prompt, completion = draw(TOKENS), draw(TOKENS)
    details: Json = {
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": draw(st.integers(0, prompt))},
        "completion_tokens_details": {"reasoning_tokens": draw(st.integers(0, completion))},
    }
    found.append(chat.usage(prompt, completion, **details))
    for chunk in found:
        chunk |= draw(st.sampled_from(({}, {"obfuscation": "x" * 7}, {"service_tier": "default"})))
    encode = draw(JSON)
    return draw(framed([("", encode(chunk)) for chunk in found] + [("", b"[DONE]")]))


# The Responses API.


@st.composite
def response_items(draw: st.DrawFn) -> list[Json]:
    items: list[Json] = []
    for number in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(("reasoning", "message", "refusal", "function_call"))):
            case "reasoning":
                encrypted = draw(st.sampled_from((None, "gAAAAopaque")))
                summary = draw(st.lists(TEXT, max_size=2))
                items.append(responses.reasoning(f"rs_{number}", encrypted, summary=summary))
            case "message":
                item = responses.message(f"msg_{number}", draw(TEXT))
                if draw(st.booleans()):  # of two parts
                    item["content"] += responses.message(text=draw(TEXT))["content"]
                items.append(item)
            case "refusal":
                items.append(responses.refusal(f"msg_{number}", draw(TEXT)))
            case "function_call":
                call = (f"fc_{number}", f"call_{number}", draw(NAME), draw(ARGUMENTS))
                items.append(responses.function_call(*call))
    if all(item["type"] == "reasoning" for item in items):
        items.append(responses.message("msg_last", draw(TEXT)))
    return items


@st.composite
def response_stream(draw: st.DrawFn) -> bytes:
    """A whole reply over the Responses API."""
    items = draw(response_items())
    read, written = draw(TOKENS), draw(TOKENS)
    more: Json = {
        "usage": responses.usage(
            read, written, cached=draw(st.integers(0, read)), reasoning_tokens=draw(st.integers(0, written))
        )
    }
    status = draw(st.sampled_from(("completed", "completed", "incomplete")))
    if status == "incomplete":
        more |= responses.incomplete(draw(st.sampled_from(("max_output_tokens", "content_filter"))))
    found = responses.events(*items, status=status, piece=draw(st.integers(1, 9)), **more)
    is_obfuscated = draw(st.booleans())
    for event in found:
        if is_obfuscated and event["type"].endswith(".delta"):
            event["obfuscation"] = "x" * 5
    encode = draw(JSON)
    return draw(framed([(event["type"], encode(event)) for event in found]))

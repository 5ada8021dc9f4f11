"""What a server of OpenAI's Responses API sends: items, documents, and the events of a stream.

    provider.will(stream(*events(reasoning("rs_1", "opaque"), message("msg_1", "fine"))))

`events` writes out a whole reply as the API's reference describes it; a test that has to break one changes the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from tests.fakes.provider import Exchange, Reply

Json = dict[str, Any]


# Items.


def reasoning(item_id: str = "rs_1", encrypted: str | None = "opaque", *, summary: Sequence[str] = ()) -> Json:
    parts = [{"type": "summary_text", "text": part} for part in summary]
    item: Json = {"id": item_id, "type": "reasoning", "summary": parts}
    return item if encrypted is None else item | {"encrypted_content": encrypted}


def message(item_id: str = "msg_1", text: str = "fine", **more: object) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"id": item_id, "type": "message", "status": "completed", "role": "assistant", "content": content, **more}


def refusal(item_id: str = "msg_1", text: str = "I will not.") -> Json:
    return message(item_id) | {"content": [{"type": "refusal", "refusal": text}]}


def function_call(
    item_id: str = "fc_1", call_id: str = "call_1", name: str = "clock", arguments: str = "{}", **more: object
) -> Json:
    call = {"id": item_id, "type": "function_call", "status": "completed", "call_id": call_id}
    return {**call, "name": name, "arguments": arguments, **more}


# Documents.


def usage(input_tokens: int = 11, output_tokens: int = 7, *, cached: int = 0, reasoning_tokens: int = 0) -> Json:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }


def document(*items: Json, status: str = "completed", model: str = "fake-1", **more: object) -> Json:
    """A response. `error` and `incomplete_details` are null unless they are given, `usage` only while it goes on."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": list(items),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "store": False,
        "usage": None if status == "in_progress" else usage(),
        **more,
    }


# Streams.


def events(
    *items: Json, status: str = "completed", piece: int = 4, model: str = "fake-1", **more: object
) -> list[Json]:
    """The events of a reply of these items, whose texts come in pieces of so many characters.

    `status` is how it ends: completed, incomplete or failed; `more` goes into the last document.
    """
    begun = document(status="in_progress", model=model)
    whole = document(*items, status=status, model=model, **more)
    found: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(items):
        found += item_events(item, index, piece)
    found.append({"type": f"response.{status}", "response": whole})
    return numbered(found)


def numbered(found: Sequence[Json]) -> list[Json]:
    return [{**event, "sequence_number": number} for number, event in enumerate(found)]


def item_events(item: Json, index: int = 0, piece: int = 4) -> Iterator[Json]:
    """The events of one item, at `index` of the output; they have no numbers yet."""
    place = {"item_id": item["id"], "output_index": index}
    unfinished = item if item["type"] == "reasoning" else item | {"status": "in_progress"}
    match item["type"]:
        case "message":
            yield _item_event("added", index, unfinished | {"content": []})
            for number, part in enumerate(item["content"]):
                yield from _content_events(part, place | {"content_index": number}, piece)
        case "function_call":
            yield _item_event("added", index, unfinished | {"arguments": ""})
            kind = "response.function_call_arguments"
            for text in pieces(item["arguments"], piece):
                yield {"type": f"{kind}.delta", **place, "delta": text}
            yield {"type": f"{kind}.done", **place, "name": item["name"], "arguments": item["arguments"]}
        case _:
            # What stands in `added` may be incomplete: here it is a part of what `done` brings.
            half = {"encrypted_content": item["encrypted_content"][:4]} if "encrypted_content" in item else {}
            yield _item_event("added", index, unfinished | {"summary": []} | half)
            for number, part in enumerate(item["summary"]):
                yield from _summary_events(part, place | {"summary_index": number}, piece)
    yield _item_event("done", index, item)


def _item_event(what: str, index: int, item: Json) -> Json:
    return {"type": f"response.output_item.{what}", "output_index": index, "item": item}


def _content_events(part: Json, place: Json, piece: int) -> Iterator[Json]:
    is_text = part["type"] == "output_text"
    name, kind = ("text", "response.output_text") if is_text else ("refusal", "response.refusal")
    logprobs: Json = {"logprobs": []} if is_text else {}
    yield {"type": "response.content_part.added", **place, "part": part | {name: ""}}
    for text in pieces(part[name], piece):
        yield {"type": f"{kind}.delta", **place, "delta": text, **logprobs}
    yield {"type": f"{kind}.done", **place, name: part[name], **logprobs}
    yield {"type": "response.content_part.done", **place, "part": part}


def _summary_events(part: Json, place: Json, piece: int) -> Iterator[Json]:
    yield {"type": "response.reasoning_summary_part.added", **place, "part": part | {"text": ""}}
    for text in pieces(part["text"], piece):
        yield {"type": "response.reasoning_summary_text.delta", **place, "delta": text}
    yield {"type": "response.reasoning_summary_text.done", **place, "text": part["text"]}
    yield {"type": "response.reasoning_summary_part.done", **place, "part": part}


def pieces(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(0, len(text), length)]


def error(code: str | None = "server_error", message: str = "it broke", param: str | None = None) -> Json:
    """The event of an error that ends a stream."""
    return {"type": "error", "code": code, "message": message, "param": param, "sequence_number": 0}


def failed(code: str = "server_error", message: str = "it broke") -> Json:
    """What to give `events` or `document` beside `status="failed"`."""
    return {"error": {"code": code, "message": message}}


def incomplete(reason: str = "max_output_tokens") -> Json:
    """What to give `events` or `document` beside `status="incomplete"`."""
    return {"incomplete_details": {"reason": reason}}


def encoded(event: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def stream(*found: Json | bytes, headers: Mapping[str, str] | None = None) -> Reply:
    """An event stream, each event in a write of its own; bytes are sent as they are. It has no [DONE]."""

    async def reply(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream; charset=utf-8", **(headers or {})})
        for event in found:
            await exchange.send(event if isinstance(event, bytes) else encoded(event))
        await exchange.end()

    return reply


def cut_stream(*found: Json) -> Reply:
    """An event stream whose connection is reset after these events."""

    async def reply(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        for event in found:
            await exchange.send(encoded(event))
        exchange.cut()

    return reply

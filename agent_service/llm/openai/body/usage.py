"""Reads the usage of a request from the fields of all providers."""

from __future__ import annotations

from typing import Any

from agent_service.llm.token_counts import tokens_in
from agent_service.v1.task_pb2 import Usage

TOKENS_MAX = 10**12

_READ = (
    "prompt_tokens",
    "input_tokens",
    "prompt_token_count",
    "promptTokenCount",
    "inputTokens",
    "prompt_eval_count",
    "prompt_n",
)
_WRITTEN = (
    "completion_tokens",
    "output_tokens",
    "generated_tokens",
    "candidatesTokenCount",
    "outputTokens",
    "eval_count",
    "predicted_n",
)
_TOTAL = ("total_tokens", "totalTokenCount", "totalTokens")
_READ_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_WRITTEN_DETAILS = ("completion_tokens_details", "output_tokens_details")
_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_content_token_count")
_REASONING = ("reasoning_tokens", "thoughtsTokenCount")


# The fields of servers that do not report usage under `usage`: Groq, Gemini, llama.cpp, Ollama.
USAGE_HOLDERS = frozenset({"x_groq", "usageMetadata", "timings", "prompt_eval_count"})


def usage_in(holder: dict[str, Any]) -> dict[str, Any] | None:
    """Return the usage that a chunk, a choice or a document reports, under any of its names; None if there is none."""
    usage = holder.get("usage")
    if usage is None and not USAGE_HOLDERS.isdisjoint(holder):
        groq = holder.get("x_groq")
        usage = groq.get("usage") if isinstance(groq, dict) else None
        usage = usage or holder.get("usageMetadata") or holder.get("timings") or holder
    return usage if isinstance(usage, dict) and usage else None


def add_usage(usage: dict[str, Any], reported: dict[str, Any]) -> None:
    """Merge a further report: most servers send running totals, others each half separately, or zeros at the end."""
    usage |= {name: count for name, count in reported.items() if count or name not in usage}


def usage_of(reported: dict[str, Any], *, input_bytes: int, output_bytes: int) -> Usage:
    """Return the usage that was reported, else an estimate from the bytes of request and reply.

    No request has 0 tokens: some servers report 0 for counts that they do not have. A missing half is computed from the
    total.
    """
    read, written, total = _first(reported, _READ), _first(reported, _WRITTEN), _first(reported, _TOTAL) or 0
    if not read and written and total > written:
        read = total - written
    if read and written is None and total > read:
        written = total - read
    if not read:
        written = max(written or 0, tokens_in(output_bytes))
        return Usage(input_tokens=tokens_in(input_bytes), output_tokens=written, estimated=True)
    if written is None or (not written and output_bytes):
        return Usage(input_tokens=read, output_tokens=tokens_in(output_bytes), estimated=True)
    # Some providers count reasoning only in the total, not in the output.
    written = max(written, total - read)
    cached = _first(_details(reported, _READ_DETAILS), _CACHED) or _first(reported, _CACHED) or 0
    if cached > read:  # Anthropic does not count cached tokens as input
        read += cached
    reasoning = _first(_details(reported, _WRITTEN_DETAILS), _REASONING) or _first(reported, _REASONING) or 0
    return Usage(
        input_tokens=read,
        cached_input_tokens=min(cached, read),
        output_tokens=written,
        reasoning_tokens=min(reasoning, written),
    )


def _details(reported: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return next((each for name in names if isinstance(each := reported.get(name), dict)), {})


def _first(counts: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the first of these values that is a count of tokens."""
    for name in names:
        value = counts.get(name)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value <= TOKENS_MAX:
            return value
    return None

"""Why a reply ended, out of the many words that providers have for it: the one table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from agent_service.llm.openai.events import BrokenReplyError
from agent_service.v1.task_event_pb2 import FinishReason

STOP = FinishReason.FINISH_REASON_STOP
TOOL_CALLS = FinishReason.FINISH_REASON_TOOL_CALLS
LENGTH = FinishReason.FINISH_REASON_LENGTH
FILTERED = FinishReason.FINISH_REASON_CONTENT_FILTER
UNKNOWN = FinishReason.FINISH_REASON_UNSPECIFIED

_WORDS: Mapping[FinishReason.ValueType, str] = MappingProxyType(
    {
        STOP: "stop end_turn end stop_sequence eos eos_token complete completed done finished normal pause_turn",
        TOOL_CALLS: "tool_calls tool_call tool_use function_call function_calls",
        LENGTH: """
            length max_tokens max_output_tokens max_completion_tokens max_length model_length
            model_context_window_exceeded
            context_length context_length_exceeded context_window_exceeded token_limit token_limit_reached truncated""",
        FILTERED: """
            content_filter content_filtered content_filter_error filtered guardrail_intervened guardrail guardrails
            sensitive safety recitation blocklist blocked prohibited_content spii image_safety language refusal
            policy_violation content_policy content_policy_violation moderation model_armor""",
    }
)
_FINISHES: Mapping[str, FinishReason.ValueType] = MappingProxyType(
    {word: finish for finish, words in _WORDS.items() for word in words.split()}
)
# The server gave up: what there is of the reply is no answer.
_BREAKS = """
    abort aborted cancel cancelled canceled error errored failed failure network_error server_error internal_error
    insufficient_system_resource overloaded timeout timed_out interrupted incomplete malformed_function_call
    malformed_response malformed_tool_call unexpected_tool_call too_many_tool_calls missing_thought_signature"""
_BROKEN_OFF = frozenset(_BREAKS.split())
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,47}")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def finish_of(word: str) -> FinishReason.ValueType:
    """The finish that a provider's word means; UNKNOWN for one that is not in the table.

    Raises:
        BrokenReplyError: the word says that the model or its server broke off.
    """
    name = _HUMP.sub("_", word.strip()).lower().replace("-", "_").replace(" ", "_").removeprefix("finish_reason_")
    if name in _BROKEN_OFF:
        raise BrokenReplyError(f"the model broke off ({name})")
    return _FINISHES.get(name, UNKNOWN)


def told(word: str) -> str:
    """A provider's word as a log may show it: no text of the reply."""
    return word if _WORD.fullmatch(word) else "not a word"

"""Maps the finish reasons of all providers to ours: the only such table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from agent_service.llm.openai.body.events import BrokenReplyError
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
# The reply continues: servers write these where the reference has null.
_GOES_ON = frozenset(
    {"", "null", "none", "nil", "unspecified", "not_finished", "in_progress", "generating", "streaming"}
)
# Patterns for words that are not in the table; the first match counts. Where the server gave up, the partial reply is
# no answer.
_FILTER = re.compile("filter|safety|sensitive|policy|guardrail|moderat|blocked|prohibited|toxic")
_BROKEN_OFF = re.compile(
    "abort|cancel|error|fail|timeout|timed_out|overload|interrupt|malformed|disconnect|unexpected|insufficient|incomplete"
    "|too_many|missing|eof"
)
_LENGTH = re.compile("length|max_|token_limit|tokens_limit|context_window|truncat|num_predict")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_ .-]{0,47}")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def finish_of(word: str) -> FinishReason.ValueType | None:
    """Return the finish for a provider's word: UNKNOWN for a word that is not known, None if the reply continues.

    Raises:
        BrokenReplyError: the word says that the model or its server broke off.
    """
    name = _HUMP.sub("_", word.strip().rpartition(".")[2]).lower().replace("-", "_").replace(" ", "_")
    name = name.removeprefix("finish_reason_")
    if name in _GOES_ON:
        return None
    if (finish := _FINISHES.get(name)) is not None:
        return finish
    if _FILTER.search(name):
        return FILTERED
    if _BROKEN_OFF.search(name):
        raise BrokenReplyError(f"the model broke off ({loggable(name)})")
    return LENGTH if _LENGTH.search(name) else UNKNOWN


def after(before: FinishReason.ValueType | None, finish: FinishReason.ValueType) -> FinishReason.ValueType:
    """Return the finish of a reply that reported two: LENGTH and FILTERED stay, else the later counts."""
    if before == FILTERED or (before == LENGTH and finish != FILTERED):
        return before
    return finish


def loggable(word: str) -> str:
    """Return a provider's word in a form that may be logged, without text of the reply."""
    return word if _WORD.fullmatch(word) else "not a word"

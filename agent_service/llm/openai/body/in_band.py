"""Errors that a provider reports in a reply that began as a success."""

from __future__ import annotations

from typing import Any

from agent_service.llm.openai.body import finish as finishes
from agent_service.llm.openai.body.events import NoAnswerError
from agent_service.v1.task_event_pb2 import FinishReason

Json = dict[str, Any]

# The fields that hold errors of servers which do not use `error`.
ERROR_HOLDERS = frozenset({"base_resp", "x_groq"})
# The fields that only an error has, if there are no choices beside it.
_COMPLAINTS = frozenset(
    {"code", "detail", "error_code", "error_message", "error_msg", "errors", "message", "msg", "statusCode"}
)
_ALL_IS_WELL = (None, 0, "", "0", 200, "200")


def error_in(chunk: Json) -> object:
    """Return the error that a chunk or a document reports; None if it reports none, or one that means success."""
    error: object = chunk.get("error")
    if not error:
        if chunk.get("object") == "error" or chunk.get("type") == "error":
            return chunk
        if ERROR_HOLDERS.isdisjoint(chunk):
            return None
        groq, minimax = chunk.get("x_groq"), chunk.get("base_resp")
        error = groq.get("error") if isinstance(groq, dict) else None
        if not error and isinstance(minimax, dict):
            return chunk if minimax.get("status_code") not in _ALL_IS_WELL else None
    if isinstance(error, dict) and error.get("code") in _ALL_IS_WELL:
        says_nothing = error.get("code") not in (None, "") or not error.get("message")
        if says_nothing and not error.get("type") and not error.get("status"):
            return None
    return error or None


def complains(chunk: Json) -> bool:
    """Return whether a chunk without choices has members of an error under other names. Then its reply is incomplete
    because of that error.
    """
    return not _COMPLAINTS.isdisjoint(chunk)


def no_answer(finish: FinishReason.ValueType) -> NoAnswerError:
    """Return the error for an empty reply."""
    if finish == finishes.LENGTH:
        return NoAnswerError("it reached its maximum of tokens before it wrote an answer", retryable=False)
    return NoAnswerError("it has neither text nor a tool call")

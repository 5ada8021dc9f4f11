"""What holds of a model where its entry says nothing: read off its provider and the family of its name.

Each function takes what is known of the entry so far, by setting: the fields that `model.Model` has validated before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from agent_service.families import Family, family_of

Api = Literal["responses", "chat"]
MaxTokensParameter = Literal["max_tokens", "max_completion_tokens"]

OPENAI_HOST = "api.openai.com"
AZURE_RESPONSES_SINCE = "2025-03-01"  # the first version of Azure's API that has the Responses API


def is_openai(provider: str, base_url: str | None) -> bool:
    """Return whether OpenAI itself is asked, be it in one of its regions (eu.api.openai.com)."""
    host = urlsplit(base_url).hostname if base_url else OPENAI_HOST
    return provider == "openai" and (host == OPENAI_HOST or str(host).endswith(f".{OPENAI_HOST}"))


def family(entry: Mapping[str, Any]) -> Family:
    if entry.get("provider") == "scripted":
        return family_of("")
    return family_of(entry.get("model_id", ""), is_openai=_is_openai(entry))


def temperature(entry: Mapping[str, Any]) -> float | None:
    return family(entry).temperature


def context_tokens(entry: Mapping[str, Any]) -> int:
    return family(entry).context_tokens


def max_tokens(entry: Mapping[str, Any]) -> int:
    """The family's, but no more than a quarter of a window that is configured smaller than the family's."""
    known = family(entry).max_tokens
    window: int = entry.get("context_tokens", known * 4)
    return max(1, min(known, window // 4))


def api(entry: Mapping[str, Any]) -> Api:
    """The Responses API where the provider is known to have it and the model reasons: only there its reasoning can be
    passed back. Everything else that speaks OpenAI's language speaks Chat Completions.
    """
    has_responses = (_is_openai(entry) or entry.get("provider") == "azure") and may_have_responses(entry)
    return "responses" if has_responses and family(entry).reasons else "chat"


def may_have_responses(entry: Mapping[str, Any]) -> bool:
    """Not so for early versions of Azure's API."""
    return str(entry.get("api_version") or AZURE_RESPONSES_SINCE)[:10] >= AZURE_RESPONSES_SINCE


def max_tokens_parameter(entry: Mapping[str, Any]) -> MaxTokensParameter:
    """OpenAI's models that reason refuse the old name; many other servers do not know the new one."""
    takes_new_name = _is_openai(entry) or entry.get("provider") == "azure" or family(entry).reasons
    return "max_completion_tokens" if takes_new_name else "max_tokens"


def keeps_to_schemas(entry: Mapping[str, Any]) -> bool:
    """Return whether the model can be held to a JSON Schema, as far as is known."""
    return (_is_openai(entry) or entry.get("provider") == "azure") and family(entry).has_json_schema


def _is_openai(entry: Mapping[str, Any]) -> bool:
    return is_openai(entry.get("provider", ""), entry.get("base_url"))

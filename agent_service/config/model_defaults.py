"""Defaults of a model's settings, by its provider and the family of its name.

Each function takes the fields that `model_entry.Model` has validated so far, by setting.
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
    """Return whether the address is OpenAI's own, including its regions (eu.api.openai.com)."""
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
    """Return the family's value, but at most a quarter of the configured window."""
    known = family(entry).max_tokens
    window: int = entry.get("context_tokens", known * 4)
    return max(1, min(known, window // 4))


def api(entry: Mapping[str, Any]) -> Api:
    """Return `responses` if the provider is known to have the Responses API and the model reasons: only that API
    accepts reasoning passed back. All other servers with an API of OpenAI have Chat Completions.
    """
    has_responses = (_is_openai(entry) or entry.get("provider") == "azure") and may_have_responses(entry)
    return "responses" if has_responses and family(entry).reasons else "chat"


def may_have_responses(entry: Mapping[str, Any]) -> bool:
    """Return whether the version of the API may have Responses: early versions of Azure's do not."""
    return str(entry.get("api_version") or AZURE_RESPONSES_SINCE)[:10] >= AZURE_RESPONSES_SINCE


def max_tokens_parameter(entry: Mapping[str, Any]) -> MaxTokensParameter:
    """Return the parameter's name: OpenAI's reasoning models reject the old one, many servers lack the new one."""
    takes_new_name = _is_openai(entry) or entry.get("provider") == "azure" or family(entry).reasons
    return "max_completion_tokens" if takes_new_name else "max_tokens"


def keeps_to_schemas(entry: Mapping[str, Any]) -> bool:
    """Return whether the model is known to follow a JSON Schema."""
    return (_is_openai(entry) or entry.get("provider") == "azure") and family(entry).has_json_schema


def _is_openai(entry: Mapping[str, Any]) -> bool:
    return is_openai(entry.get("provider", ""), entry.get("base_url"))

"""What every request of one configured model says, beside the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent_service.llm.base import Capabilities


class Api(StrEnum):
    """OpenAI's two APIs: Chat Completions and Responses."""

    CHAT = "chat"
    RESPONSES = "responses"


class PassBack(StrEnum):
    """Whether a provider gets its own reasoning back with the next request of a task."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """Nothing is sent of what is None.

    `max_tokens_parameter` is the name of `max_tokens` in Chat Completions. `effort_for_tools` is the effort there of a
    request with tools, where `effort` is None. `encrypted_reasoning`: the Responses API is asked for it, which models
    that do not reason refuse.
    """

    model_id: str
    api: Api = Api.CHAT
    temperature: float | None = None
    max_tokens: int | None = None
    max_tokens_parameter: str = "max_tokens"
    effort: str | None = None
    effort_for_tools: str | None = None
    summary: str | None = None
    pass_back: PassBack = PassBack.AUTO
    encrypted_reasoning: bool = True
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Capabilities = field(default_factory=Capabilities)

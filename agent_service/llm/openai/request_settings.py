"""The settings that every request of one configured model has, beside the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent_service.llm.base import Capabilities


class Api(StrEnum):
    """OpenAI's two APIs."""

    CHAT = "chat"
    RESPONSES = "responses"


class PassBack(StrEnum):
    """The opaque fields of a reply that are sent back to the provider: as received, reasoning always, or none."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """The settings of one model. `temperature`, `max_tokens`, `effort` and `summary` are not sent if they are None.

    `max_tokens_parameter` is the name of the reply's bound in Chat Completions; `effort_for_tools` is sent with tools
    if `effort` is not set. `encrypted_reasoning` asks the Responses API for reasoning that
    can be sent back. `extra_body` is merged into the top level of every request.
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

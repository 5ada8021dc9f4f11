"""What every request of one configured model says, beside the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent_service.llm.base import Capabilities


class Api(StrEnum):
    """Which of OpenAI's two APIs a model is asked over."""

    CHAT = "chat"
    RESPONSES = "responses"


class PassBack(StrEnum):
    """Which of a reply's opaque fields go back to the provider: those that it sent, reasoning always, or none."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """`temperature`, `max_tokens`, `effort` and `summary` are not sent where they are None.

    `max_tokens_parameter` is what Chat Completions calls the bound of a reply, and `effort_for_tools` what it is sent
    with tools in place of an `effort` that is not set. `encrypted_reasoning` asks the Responses API for reasoning that
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

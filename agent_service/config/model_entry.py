"""A model's entry in the configuration file, with every default filled in.

What the entry leaves out follows from its provider and from the family of its name: `model_defaults`. So a setting
comes below those that its default depends on.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator

from agent_service.config import model_defaults
from agent_service.config.model_parts import Capabilities, Price, Reasoning, Retry, Strict, Timeout
from agent_service.config.values import (
    carries_secret,
    is_variable,
    valid_base_url,
    valid_extra_body,
    valid_header_name,
    valid_header_value,
)

REMOTE = ("openai", "azure")  # the providers that are asked over the network
API_KEY_ENV_DEFAULT = "OPENAI_API_KEY"
KEY_VARIABLES = MappingProxyType({"openai": API_KEY_ENV_DEFAULT, "azure": "AZURE_OPENAI_API_KEY"})

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
HeaderName = Annotated[str, AfterValidator(valid_header_name)]
HeaderValue = Annotated[str, AfterValidator(valid_header_value)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]


class Model(Strict):
    """A model that agents can name."""

    name: Name = Field(default="", description="What people call it; the key where it is not given.")
    provider: Literal["openai", "azure", "scripted"] = Field(
        description="`openai`: OpenAI, or a server that speaks one of its APIs. `azure`: a deployment at Azure"
        " OpenAI. `scripted`: a deterministic stand-in that needs no network."
    )
    model_id: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="",
        validate_default=True,
        description="What the provider calls it; at Azure the deployment. Required but for the scripted model.",
    )
    base_url: Annotated[str, AfterValidator(valid_base_url)] | None = Field(
        default=None,
        validate_default=True,
        description="Where the provider listens; OpenAI where it is not given. Required at Azure: the resource, such as"
        " https://name.openai.azure.com.",
    )
    api_version: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}(-preview)?$")] | None = Field(
        default=None,
        description="The version of Azure's API; not given, 2024-10-21 for Chat Completions and v1 for Responses, which"
        " versions before 2025-03-01 do not have.",
    )
    api: Literal["auto", "responses", "chat"] = Field(
        default="auto",
        validate_default=True,
        description="Which of OpenAI's APIs: `responses`, or `chat` for Chat Completions. `auto`: `responses` at OpenAI"
        " and Azure for a model that reasons, else `chat`.",
    )
    temperature: Temperature | None = Field(
        default_factory=model_defaults.temperature,
        description="Randomness; `null` sends none. Not given: 0.2 to families of models that take one, else none.",
    )
    context_tokens: int = Field(
        default_factory=model_defaults.context_tokens,
        ge=2,
        le=100_000_000,
        description="The model's window, input and reply together. Of its session and of its own earlier turns a task"
        " shows it what fits. Not given: by the model's family ([models.md](models.md)).",
    )
    max_tokens: MaxTokens = Field(
        default_factory=model_defaults.max_tokens,
        validate_default=True,
        description="The most tokens of one reply, reasoning included. Not given: by the model's family, and at most a"
        " quarter of `context_tokens`.",
    )
    max_tokens_parameter: Literal["auto", "max_tokens", "max_completion_tokens"] = Field(
        default="auto",
        validate_default=True,
        description="The name of `max_tokens` in Chat Completions at this provider. `auto`: `max_completion_tokens` at"
        " OpenAI, at Azure and for OpenAI's models that reason, else `max_tokens`.",
    )
    reasoning: Reasoning = Reasoning()
    extra_body: Annotated[dict[str, Any], AfterValidator(valid_extra_body)] = Field(
        default={},
        description="Added to the JSON of every request, at its top level: what a provider accepts beyond these"
        " settings. No place for secrets.",
    )
    api_key_env: str | None = Field(
        default=None,
        description="The name of the environment variable with the provider's key. Not given: OPENAI_API_KEY, which"
        " need not be set where `base_url` is, and at Azure AZURE_OPENAI_API_KEY.",
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, description="Sent with every request, beside our own. No place for secrets."
    )
    headers_env: dict[HeaderName, str] = Field(
        default={}, description="The same, where the value is a secret: the name of the environment variable with it."
    )
    fallbacks: tuple[Name, ...] = Field(
        default=(),
        strict=False,
        max_length=10,
        description="The keys of other models, asked in this order where this one gives no reply. A request that one"
        " of them rejects is given up, and a fallback's own fallbacks are not asked.",
    )
    script: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="A file with the replies of the scripted model; relative to the configuration file.",
    )
    capabilities: Capabilities = Field(default=Capabilities(), validate_default=True)
    price: Price | None = Field(default=None, description="Not given, what the model costs is not known.")
    retry: Retry = Retry()
    timeout: Timeout = Timeout()

    @field_validator("model_id")
    @classmethod
    def _id(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("provider") in REMOTE:
            raise ValueError("is missing")
        return value

    @field_validator("api")
    @classmethod
    def _api(cls, value: str, info: ValidationInfo) -> str:
        if value == "auto":
            return model_defaults.api(info.data)
        if value == "responses" and not model_defaults.may_have_responses(info.data):
            raise ValueError("responses needs an api_version of 2025-03-01-preview or later, or none")
        return value

    @field_validator("max_tokens")
    @classmethod
    def _leaves_room(cls, value: int, info: ValidationInfo) -> int:
        window = info.data.get("context_tokens")
        if window is not None and value >= window:
            text = (
                f"must be below context_tokens, here {window}: a reply that fills the window leaves no room for a task"
            )
            raise ValueError(text)
        return value

    @field_validator("max_tokens_parameter")
    @classmethod
    def _parameter(cls, value: str, info: ValidationInfo) -> str:
        return model_defaults.max_tokens_parameter(info.data) if value == "auto" else value

    @field_validator("capabilities")
    @classmethod
    def _can(cls, value: Capabilities, info: ValidationInfo) -> Capabilities:
        if value.json_schema is not None:
            return value
        return value.model_copy(update={"json_schema": model_defaults.keeps_to_schemas(info.data)})

    @field_validator("base_url", "api_key_env", "headers", "headers_env", "extra_body")
    @classmethod
    def _remote_only(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("provider") == "scripted":
            raise ValueError("does not fit the provider scripted, which calls no server")
        return value

    @field_validator("base_url")
    @classmethod
    def _resource(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("provider") == "azure":
            raise ValueError("is missing")
        return value

    @field_validator("api_version")
    @classmethod
    def _azure_only(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("provider") != "azure":
            raise ValueError("fits the provider azure alone")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        # What stands here by mistake is the key itself.
        if value is not None and not is_variable(value):
            raise ValueError("must be the name of an environment variable, in upper case")
        return value

    @field_validator("script")
    @classmethod
    def _scripted_only(cls, value: str | None, info: ValidationInfo) -> str | None:
        provider = info.data.get("provider")
        if value is not None and provider in REMOTE:
            raise ValueError(f"does not fit the provider {provider}; only scripted models have one")
        return value

    @field_validator("headers_env")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(map(is_variable, value.values())):
            raise ValueError("must map each header to the name of an environment variable, in upper case")
        return value

    @field_validator("headers")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        if any(map(carries_secret, value)):
            raise ValueError("has one that carries a secret; headers_env reads it from the environment")
        return value

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the provider's key."""
        return self.api_key_env or KEY_VARIABLES.get(self.provider, API_KEY_ENV_DEFAULT)

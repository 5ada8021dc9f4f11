"""A model's entry in the configuration file, with all defaults.

Defaults depend on the provider and on the family of the model's name: `model_defaults`. Fields are validated in order,
so a setting follows those that its default depends on.
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

REMOTE = ("openai", "azure")  # the providers that are called over the network
API_KEY_ENV_DEFAULT = "OPENAI_API_KEY"
KEY_VARIABLES = MappingProxyType({"openai": API_KEY_ENV_DEFAULT, "azure": "AZURE_OPENAI_API_KEY"})

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
HeaderName = Annotated[str, AfterValidator(valid_header_name)]
HeaderValue = Annotated[str, AfterValidator(valid_header_value)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]


class Model(Strict):
    """A model that agents can use."""

    name: Name = Field(default="", description="Name shown to people. Default: the key.")
    provider: Literal["openai", "azure", "scripted"] = Field(
        description="`openai`: OpenAI, or a server with one of its APIs. `azure`: a deployment at Azure OpenAI."
        " `scripted`: answers from a script, without a network."
    )
    model_id: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="",
        validate_default=True,
        description="The provider's name of the model; at Azure, the deployment. Required except for scripted models.",
    )
    base_url: Annotated[str, AfterValidator(valid_base_url)] | None = Field(
        default=None,
        validate_default=True,
        description="The address of the provider's API. Default: OpenAI. Required at Azure: the resource, such as"
        " https://name.openai.azure.com.",
    )
    api_version: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}(-preview)?$")] | None = Field(
        default=None,
        description="The version of Azure's API. Default: 2024-10-21 for Chat Completions, v1 for Responses. Versions"
        " before 2025-03-01 do not have Responses.",
    )
    api: Literal["auto", "responses", "chat"] = Field(
        default="auto",
        validate_default=True,
        description="The API to use: `responses`, or `chat` for Chat Completions. `auto`: `responses` at OpenAI and"
        " Azure for a reasoning model, else `chat`.",
    )
    temperature: Temperature | None = Field(
        default_factory=model_defaults.temperature,
        description="The sampling temperature; `null` sends none. Default: 0.2 for model families that accept it,"
        " else none.",
    )
    context_tokens: int = Field(
        default_factory=model_defaults.context_tokens,
        ge=2,
        le=100_000_000,
        description="The model's context window, input and reply together. Earlier turns of a task and its session"
        " are cut to fit. Default: by model family ([models.md](models.md)).",
    )
    max_tokens: MaxTokens = Field(
        default_factory=model_defaults.max_tokens,
        validate_default=True,
        description="The maximum number of tokens of one reply, including reasoning. Default: by model family, at most"
        " a quarter of `context_tokens`.",
    )
    max_tokens_parameter: Literal["auto", "max_tokens", "max_completion_tokens"] = Field(
        default="auto",
        validate_default=True,
        description="The name of `max_tokens` in Chat Completions at this provider. `auto`: `max_completion_tokens` at"
        " OpenAI, at Azure and for OpenAI's reasoning models, else `max_tokens`.",
    )
    reasoning: Reasoning = Reasoning.model_construct()
    extra_body: Annotated[dict[str, Any], AfterValidator(valid_extra_body)] = Field(
        default={},
        description="Further top-level members of the JSON of every request, for options of a provider that have no"
        " setting here. Must not contain secrets.",
    )
    api_key_env: str | None = Field(
        default=None,
        description="The name of the environment variable with the provider's key. Default: OPENAI_API_KEY, which may"
        " be unset if `base_url` is set; at Azure, AZURE_OPENAI_API_KEY.",
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, description="Additional headers of every request. Must not contain secrets."
    )
    headers_env: dict[HeaderName, str] = Field(
        default={},
        description="Additional headers with secret values: the name of the environment variable with the value.",
    )
    fallbacks: tuple[Name, ...] = Field(
        default=(),
        strict=False,
        max_length=10,
        description="The keys of other models, tried in this order if this one gives no reply. A request that one of"
        " them rejects is not passed on. The fallbacks of a fallback are not used.",
    )
    script: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="A file with the replies of the scripted model, relative to the configuration file.",
    )
    capabilities: Capabilities = Field(default=Capabilities.model_construct(), validate_default=True)
    price: Price | None = Field(default=None, description="Default: the cost of the model is unknown.")
    retry: Retry = Retry.model_construct()
    timeout: Timeout = Timeout.model_construct()

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
            raise ValueError("is only for the provider azure")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        # A common mistake is to put the key itself here.
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
            raise ValueError("has a header that may carry a secret; use headers_env to read it from the environment")
        return value

    @property
    def key_variable(self) -> str:
        """Return the name of the environment variable with the provider's key."""
        return self.api_key_env or KEY_VARIABLES.get(self.provider, API_KEY_ENV_DEFAULT)

"""The model `default`, if the configuration file declares no models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from agent_service.config.model_entry import MaxTokens, Temperature
from agent_service.config.values import valid_base_url
from agent_service.config.variables.field_types import Secret, Variables


def _number_or_none(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:  # one error for each member of the union
        raise ValueError("must be a number from 0 to 2, or none") from None


class ModelsVariables(Variables):
    """The model `default`, if the configuration file declares no models."""

    openai_api_key: Secret | None = Field(
        default=None,
        alias="OPENAI_API_KEY",
        title="Models",
        description="The provider's key. Without a key, development uses a scripted model.",
    )
    llm_provider: Literal["openai", "scripted"] = Field(
        default="openai",
        alias="LLM_PROVIDER",
        title="Models",
        description="The provider of the model `default`, if the configuration file declares no models: openai (or a"
        " server with its API) or scripted.",
    )
    llm_model: Annotated[str, Field(max_length=200)] = Field(
        default="gpt-6.2-sol",
        alias="LLM_MODEL",
        title="Models",
        description="The provider's name of the model `default`.",
    )
    llm_base_url: Annotated[str, AfterValidator(valid_base_url)] | None = Field(
        default=None,
        alias="LLM_BASE_URL",
        title="Models",
        description="The address of the API of the model `default`, such as http://localhost:11434/v1 for Ollama;"
        " unset: OpenAI.",
    )
    llm_api: Literal["auto", "responses", "chat"] = Field(
        default="auto",
        alias="LLM_API",
        title="Models",
        description="The API of the model `default`: responses, or chat for Chat Completions; auto: responses at"
        " OpenAI for a reasoning model, else chat.",
    )
    llm_temperature: Annotated[Temperature | Literal["none"] | None, WrapValidator(_number_or_none)] = Field(
        default=None,
        alias="LLM_TEMPERATURE",
        title="Models",
        description="The sampling temperature of the model `default`, or none to send none; unset: 0.2 for model"
        " families that accept it, else none.",
    )
    llm_max_tokens: MaxTokens | None = Field(
        default=None,
        alias="LLM_MAX_TOKENS",
        title="Models",
        description="The maximum number of tokens of one reply of the model `default`, including reasoning; unset: by"
        " model family.",
    )
    openai_base_url: Annotated[str, AfterValidator(valid_base_url)] | None = Field(
        default=None,
        alias="OPENAI_BASE_URL",
        title="Models",
        description="The address of models of the provider openai without one (LLM_BASE_URL, `base_url`), as in"
        " OpenAI's libraries. A notice at the start names these models. Unset: OpenAI.",
    )
    readiness_provider: bool = Field(
        default=False,
        alias="READINESS_PROVIDER",
        title="Models",
        description="Whether the service is not ready while its model provider cannot be reached.",
    )

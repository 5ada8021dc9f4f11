"""Builds the arguments of a model's adapter from its configuration: request settings, endpoint, and the places where
the parameters of its requests are configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent_service.config import model_defaults
from agent_service.config.loader import Config
from agent_service.config.model_entry import Model
from agent_service.llm.base import Capabilities
from agent_service.llm.openai.endpoint import OPENAI_BASE_URL, Endpoint, azure_endpoint, openai_endpoint
from agent_service.llm.openai.request_settings import Api, PassBack, RequestSettings

# The setting of each parameter, by the names that providers use when they refuse one.
SETTING_OF = MappingProxyType(
    {
        "model": "model_id",
        "api": "api",
        "temperature": "temperature",
        "max_tokens": "max_tokens",
        "max_completion_tokens": "max_tokens",
        "max_output_tokens": "max_tokens",
        "reasoning": "reasoning.effort",
        "reasoning_effort": "reasoning.effort",
        "reasoning.effort": "reasoning.effort",
        "reasoning.summary": "reasoning.summary",
        "include": "reasoning.pass_back",
        "tools": "capabilities.tools",
        "parallel_tool_calls": "capabilities.parallel_tools",
        "response_format": "capabilities.json_schema",
        "text.format": "capabilities.json_schema",
        "stream_options": "capabilities.stream_usage",
    }
)


def request_settings(model: Model) -> RequestSettings:
    family, can, api = model_defaults.family(dict(model)), model.capabilities, Api(model.api)
    pass_back = PassBack(model.reasoning.pass_back)
    does_not_reason = family.generation is not None and not family.reasons
    needs_effort = api is Api.CHAT and family.takes_effort_none and model.reasoning.effort is None
    return RequestSettings(
        model_id=model.model_id,
        api=api,
        temperature=model.temperature,
        max_tokens=model.max_tokens,
        max_tokens_parameter=model.max_tokens_parameter,
        effort=model.reasoning.effort,
        effort_for_tools="none" if needs_effort else None,
        summary=model.reasoning.summary,
        pass_back=pass_back,
        encrypted_reasoning=not does_not_reason and pass_back is not PassBack.NEVER,
        extra_body=model.extra_body,
        capabilities=Capabilities(
            tools=can.tools,
            parallel_tools=can.parallel_tools,
            json_schema=bool(can.json_schema),
            stream_usage=can.stream_usage,
        ),
    )


def endpoint(config: Config, key: str) -> Endpoint:
    """Return the endpoint of the model with this key.

    Raises:
        ConfigError: its API key or its URL is not valid.
    """
    model, secret = config.models[key], config.api_key(key)
    api_key, api, headers = secret.get_secret_value() if secret else "", Api(model.api), config.headers(key)
    if model.provider != "azure":
        return openai_endpoint(model.base_url or OPENAI_BASE_URL, api_key, headers, api=api)
    base_url, version = model.base_url or "", model.api_version or ""
    return azure_endpoint(base_url, api_key, headers, deployment=model.model_id, api_version=version, api=api)


def places(config: Config, key: str) -> Mapping[str, str]:
    """Return the place where each parameter of the model's requests is configured, in words."""
    extra = {name: f"extra_body.{name}" for name in config.models[key].extra_body}
    return {parameter: config.place(key, setting) for parameter, setting in ({**SETTING_OF, **extra}).items()}

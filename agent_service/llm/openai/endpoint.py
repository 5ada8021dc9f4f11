"""Where a provider that speaks Chat Completions listens, and what it wants to be told with every request.

Knows OpenAI's way, which most servers share, and Azure's. Headers may hold keys: nothing here shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from agent_service.errors import ConfigError

OPENAI_BASE_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` is that of chat completions, under `base_url`. `max_tokens` is what the bound of a reply is called."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    path: str = "/chat/completions"
    query: Mapping[str, str] = field(default_factory=dict)
    max_tokens: str = "max_tokens"


def openai_endpoint(base_url: str, api_key: str, headers: Mapping[str, str]) -> Endpoint:
    """OpenAI's own, or that of a server which speaks like it. An empty key sends no Authorization header.

    Raises:
        ConfigError: the key or the URL is none.
    """
    _check(base_url, api_key)
    # OpenAI's newer models insist on the new name, and other servers do not know it.
    max_tokens = "max_completion_tokens" if base_url.rstrip("/") == OPENAI_BASE_URL else "max_tokens"
    given = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return Endpoint(base_url, _merged(given, headers), max_tokens=max_tokens)


def azure_endpoint(
    base_url: str, api_key: str, headers: Mapping[str, str], *, deployment: str, api_version: str
) -> Endpoint:
    """A deployment of an Azure OpenAI resource, such as `https://name.openai.azure.com`.

    Raises:
        ConfigError: the key or the URL is none.
    """
    _check(base_url, api_key)
    resource = base_url.rstrip("/").removesuffix("/openai")
    return Endpoint(
        f"{resource}/openai",
        _merged({"api-key": api_key} if api_key else {}, headers),
        path=f"/deployments/{quote(deployment, safe='')}/chat/completions",
        query={"api-version": api_version},
        max_tokens="max_completion_tokens",
    )


def _check(base_url: str, api_key: str) -> None:
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise ConfigError(["the model's API key has characters that no key has"])
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(["the model's base_url is not an http or https URL"])


def _merged(given: Mapping[str, str], configured: Mapping[str, str]) -> Mapping[str, str]:
    """The configured ones, and those of ours that they do not replace; names know no case."""
    replaced = {name.lower() for name in configured}
    return {name: value for name, value in given.items() if name.lower() not in replaced} | dict(configured)

"""The endpoint of a provider that implements one of OpenAI's APIs: its URL, and the headers of every request.

Supports OpenAI's form, which most servers share, and Azure's. Headers may hold keys: no `repr` here shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from agent_service.errors import ConfigError
from agent_service.llm.openai.request_settings import Api

OPENAI_BASE_URL = "https://api.openai.com/v1"
AZURE_API_VERSION = "2024-10-21"  # of Chat Completions

_PATHS = {Api.CHAT: "/chat/completions", Api.RESPONSES: "/responses"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` is that of the API, under `base_url`."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    path: str = "/chat/completions"
    query: Mapping[str, str] = field(default_factory=dict)


def openai_endpoint(base_url: str, api_key: str, headers: Mapping[str, str], *, api: Api = Api.CHAT) -> Endpoint:
    """Return the endpoint of OpenAI or of a compatible server. An empty key sends no Authorization header.

    Raises:
        ConfigError: the key or the URL is invalid.
    """
    _check(base_url, api_key)
    given = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return Endpoint(base_url, _merged(given, headers), path=_PATHS[api])


def azure_endpoint(
    base_url: str,
    api_key: str,
    headers: Mapping[str, str],
    *,
    deployment: str,
    api_version: str = "",
    api: Api = Api.CHAT,
) -> Endpoint:
    """Return a deployment of an Azure OpenAI resource, such as `https://name.openai.azure.com`. Without a version, the
    Responses API is used under `/openai/v1`, which has none.

    Raises:
        ConfigError: the key or the URL is invalid.
    """
    _check(base_url, api_key)
    resource = base_url.rstrip("/").removesuffix("/openai/v1").removesuffix("/openai")
    merged = _merged({"api-key": api_key} if api_key else {}, headers)
    if api is Api.RESPONSES:  # the deployment is named in the request, as its model
        if not api_version:
            return Endpoint(f"{resource}/openai/v1", merged, path=_PATHS[api])
        return Endpoint(f"{resource}/openai", merged, path=_PATHS[api], query={"api-version": api_version})
    path = f"/deployments/{quote(deployment, safe='')}{_PATHS[api]}"
    return Endpoint(f"{resource}/openai", merged, path=path, query={"api-version": api_version or AZURE_API_VERSION})


def _check(base_url: str, api_key: str) -> None:
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise ConfigError(["the model's API key has characters that are not allowed in a key"])
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(["the model's base_url is not an http or https URL"])


def _merged(given: Mapping[str, str], configured: Mapping[str, str]) -> Mapping[str, str]:
    """Return the configured headers, and those of ours that they do not replace; case of names is ignored."""
    replaced = {name.lower() for name in configured}
    return {name: value for name, value in given.items() if name.lower() not in replaced} | dict(configured)

"""Notices about variables that libraries read by themselves, for the operator.

Uses only the names. Code that imports a library checks whether the values work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from agent_service.config.model_entry import REMOTE, Model
from agent_service.config.problems import Problem
from agent_service.config.settings import CLIENT_VARIABLES, Settings, ignored_traces
from agent_service.config.sources.environment import PLACEHOLDERS, Environment
from agent_service.text.suggestions import did_you_mean

# Read only from the process's environment, by HTTP clients, OpenSSL, gRPC, OpenTelemetry and the openai package.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_LIBRARIES = re.compile(r"(?i)(https?|all|no|grpc)_proxy|SSL_CERT_(FILE|DIR)|SSLKEYLOGFILE|(GRPC|OTEL|OPENAI)_\w+")
# The similarity from which on a name counts as a misspelling: LLM_MODLE does, AZURE_OPENAI_API_KEY does not.
_MISSPELLED = 0.88
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def notices(
    environment: Environment, settings: Settings, models: Mapping[str, Model], own: frozenset[str]
) -> list[Problem]:
    """Return the notices of the start. `own` are the names of variables that the settings read."""
    found = [environment.problem(name, text) for name, text in ignored_traces(environment, settings).items()]
    for name in sorted(environment.dotenv_lines):
        if name not in own and _LIBRARIES.fullmatch(name):
            text = "has no effect here: a library reads it, but only from the environment of the process"
            found.append(environment.problem(name, text))
    for name, value in environment.values.items():
        if value in PLACEHOLDERS:
            found.append(environment.problem(name, "is the placeholder of an example and counts as unset"))
    found += _misspelled(environment, models, own)
    remote = {key: model for key, model in models.items() if model.provider in REMOTE}
    if not remote:
        return found
    given = {name for name in environment.values if name not in environment.dotenv_lines}
    defaulted = [key for key, model in remote.items() if model.base_url == settings.openai_base_url is not None]
    if defaulted and "LLM_BASE_URL" not in environment.values:
        text = f"is the address of models without a base_url: {', '.join(defaulted)}"
        found.append(environment.problem("OPENAI_BASE_URL", text))
    if "OPENAI_CUSTOM_HEADERS" in given:
        text = "makes the openai package send these headers to every provider; a model's `headers` go only to its own"
        found.append(environment.problem("OPENAI_CUSTOM_HEADERS", text))
    if environment.values.get("OPENAI_LOG", "").lower() == "debug" and "OPENAI_LOG" in given:
        found.append(
            environment.problem("OPENAI_LOG", "makes the openai package log requests, including the texts of tasks")
        )
    return found + _proxied(environment, given, remote)


def _misspelled(environment: Environment, models: Mapping[str, Model], own: frozenset[str]) -> list[Problem]:
    """Report unused names similar to those of settings, only as notices: they may belong to other programs."""
    read = {model.key_variable for model in models.values()} | CLIENT_VARIABLES
    read |= {variable for model in models.values() for variable in model.headers_env.values()}
    return [
        environment.problem(name, f"is not a variable of this service{hint}")
        for name in sorted(environment.values.keys() - own - read)
        if not _LIBRARIES.fullmatch(name) and (hint := did_you_mean(name, own, cutoff=_MISSPELLED))
    ]


def proxy_variables(given: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that set a proxy, in upper or lower case."""
    return [name for name in sorted(given) if name.upper() in PROXIES]


def _proxied(environment: Environment, given: set[str], remote: Mapping[str, Model]) -> list[Problem]:
    """Report models on this machine that are called through a proxy, for which that name is another machine."""
    values = {name: environment.values[name] for name in given}
    direct = next((values[name] for name in ("no_proxy", "NO_PROXY") if name in values), "").replace(" ", "").split(",")
    found = []
    for key, model in remote.items():
        url = urlsplit(model.base_url or "")
        if url.hostname not in LOOPBACK or {url.hostname, "*"} & set(direct):
            continue
        for name in proxy_variables(values):
            if name.upper() in (f"{url.scheme.upper()}_PROXY", "ALL_PROXY"):
                text = f"sends the requests of model {key} at {url.hostname} to a proxy, unless NO_PROXY={url.hostname}"
                found.append(environment.problem(name, text))
    return found

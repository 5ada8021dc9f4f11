"""Variables that libraries read behind the settings: what the service runs with, and an operator should know.

Knows names alone. Whether a library can work with what they hold is for those to try who have the library.
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

# Read from the process's environment alone, by HTTP clients, OpenSSL, gRPC, OpenTelemetry and the openai package.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_LIBRARIES = re.compile(r"(?i)(https?|all|no|grpc)_proxy|SSL_CERT_(FILE|DIR)|SSLKEYLOGFILE|(GRPC|OTEL|OPENAI)_\w+")
# How much of a name must be that of a variable, for it to be a misspelling: LLM_MODLE is, AZURE_OPENAI_API_KEY is not.
_MISSPELLED = 0.88
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def notices(
    environment: Environment, settings: Settings, models: Mapping[str, Model], own: frozenset[str]
) -> list[Problem]:
    """Return what to tell at the start. `own` are the names of variables that the settings read."""
    told = [environment.problem(name, text) for name, text in ignored_traces(environment, settings).items()]
    for name in sorted(environment.dotenv_lines):
        if name not in own and _LIBRARIES.fullmatch(name):
            text = "has no effect here: a library reads it, from the environment of the process alone"
            told.append(environment.problem(name, text))
    for name, value in environment.values.items():
        if value in PLACEHOLDERS:
            told.append(environment.problem(name, "is the placeholder of an example, and counts as unset"))
    told += _misspelled(environment, models, own)
    remote = {key: model for key, model in models.items() if model.provider in REMOTE}
    if not remote:
        return told
    given = {name for name in environment.values if name not in environment.dotenv_lines}
    defaulted = [key for key, model in remote.items() if model.base_url == settings.openai_base_url is not None]
    if defaulted and "LLM_BASE_URL" not in environment.values:
        text = f"is where models without a base_url of their own are asked: {', '.join(defaulted)}"
        told.append(environment.problem("OPENAI_BASE_URL", text))
    if "OPENAI_CUSTOM_HEADERS" in given:
        text = "has the openai package send these headers to every provider; a model's own `headers` go to its own"
        told.append(environment.problem("OPENAI_CUSTOM_HEADERS", text))
    if environment.values.get("OPENAI_LOG", "").lower() == "debug" and "OPENAI_LOG" in given:
        told.append(environment.problem("OPENAI_LOG", "has the openai package log requests, with the texts of tasks"))
    return told + _proxied(environment, given, remote)


def _misspelled(environment: Environment, models: Mapping[str, Model], own: frozenset[str]) -> list[Problem]:
    """Names that nothing reads and that are nearly those of settings. A notice: they may be somebody else's."""
    read = {model.key_variable for model in models.values()} | CLIENT_VARIABLES
    read |= {variable for model in models.values() for variable in model.headers_env.values()}
    return [
        environment.problem(name, f"is not a variable of this service{hint}")
        for name in sorted(environment.values.keys() - own - read)
        if not _LIBRARIES.fullmatch(name) and (hint := did_you_mean(name, own, cutoff=_MISSPELLED))
    ]


def proxy_variables(given: Mapping[str, str]) -> list[str]:
    """The names of the variables that name a proxy, in either case."""
    return [name for name in sorted(given) if name.upper() in PROXIES]


def _proxied(environment: Environment, given: set[str], remote: Mapping[str, Model]) -> list[Problem]:
    """Models on this machine that are asked through a proxy, which sees another machine under that name."""
    values = {name: environment.values[name] for name in given}
    direct = next((values[name] for name in ("no_proxy", "NO_PROXY") if name in values), "").replace(" ", "").split(",")
    told = []
    for key, model in remote.items():
        url = urlsplit(model.base_url or "")
        if url.hostname not in LOOPBACK or {url.hostname, "*"} & set(direct):
            continue
        for name in proxy_variables(values):
            if name.upper() in (f"{url.scheme.upper()}_PROXY", "ALL_PROXY"):
                text = f"sends what model {key} at {url.hostname} is asked to a proxy, unless NO_PROXY={url.hostname}"
                told.append(environment.problem(name, text))
    return told

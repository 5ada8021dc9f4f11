"""Checks at start that libraries can use the environment variables that they read."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from agent_service.config.loader import Config
from agent_service.config.model_entry import REMOTE
from agent_service.config.problems import ENVIRONMENT, Problem
from agent_service.config.surroundings import CERTIFICATES, proxy_variables
from agent_service.errors import ConfigError
from agent_service.tools.registry import ToolRegistry

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
# OpenAI refuses a longer one, and with it the whole request.
DESCRIPTION_LENGTH_MAX = 1024


def check_http_client(config: Config, environ: Mapping[str, str] = os.environ) -> None:
    """Check that an HTTP client for providers can be built; otherwise every task would fail. Sends no request.

    Raises:
        ConfigError: a proxy, a certificate or a key log that a variable names cannot be used.
    """
    proxies, files = proxy_variables(environ), [name for name in CERTIFICATES if environ.get(name)]
    proxies = [name for name in proxies if environ[name].strip()]
    if not (proxies or files) or not _asks_others(config):
        return
    flaws = {name: flaw for name in proxies if (flaw := _proxy_flaw(environ[name]))}
    flaws |= {name: flaw for name in files if (flaw := _file_flaw(name, environ[name]))}
    if not flaws and (fault := _construction_fault()) is not None:
        # OSError comes from the system or OpenSSL: the cause is one of the files.
        to_blame = files if files and isinstance(fault, OSError) else (*proxies, *files)
        flaws = dict.fromkeys(to_blame, f"may be why no HTTP client can be built: {_in_words(fault)}")
    if flaws:
        raise ConfigError([str(Problem(ENVIRONMENT, 0, name, flaw)) for name, flaw in flaws.items()])


def long_descriptions(config: Config, registry: ToolRegistry) -> list[str]:
    """Return a notice for each tool whose description is longer than OpenAI accepts."""
    used = dict.fromkeys(tool for agent in config.agents.values() for tool in agent.tools)
    lengths = {name: len(registry.get(name).description) for name in used}
    return [
        f"tool {name}: its description has {length} characters; OpenAI accepts {DESCRIPTION_LENGTH_MAX}"
        for name, length in lengths.items()
        if length > DESCRIPTION_LENGTH_MAX
    ]


def _asks_others(config: Config) -> bool:
    keys = config.settings.jwt_jwks or config.settings.jwt_issuer or ""
    return "://" in keys or any(model.provider in REMOTE for model in config.models.values())


def _proxy_flaw(value: str) -> str:
    """Return why a proxy cannot be used; "" if it can. Never repeats the value, which may hold a password."""
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        scheme, is_complete = url.scheme, bool(url.hostname) and url.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or not value.isprintable() or " " in value:
        return "must be the URL of a proxy, such as http://proxy:3128"
    if scheme not in PROXY_SCHEMES:
        return f"must be the URL of a proxy: {', '.join(f'{scheme}://' for scheme in PROXY_SCHEMES)}"
    if scheme.startswith("socks5") and importlib.util.find_spec("socksio") is None:
        return "names a SOCKS proxy, for which the package socksio must be installed: pip install socksio"
    return ""


def _file_flaw(name: str, value: str) -> str:
    path = Path(value)
    if name == "SSL_CERT_DIR":
        return "" if path.is_dir() else "is not a directory"
    if name == "SSLKEYLOGFILE":
        is_usable = os.access(path if path.exists() else path.parent, os.W_OK) and not path.is_dir()
        return "" if is_usable else "cannot be written"
    if not path.exists():
        return "does not exist"
    return "" if path.is_file() and os.access(path, os.R_OK) else "is not a file that can be read"


def _construction_fault() -> Exception | None:
    """Return the error of building an HTTP client with the environment of the process, if any."""
    import httpx2  # imported here: it takes 0.2 s, and only such variables need it

    try:
        httpx2.AsyncClient()
    except Exception as error:  # noqa: BLE001 - after any error no client can be built
        return error
    return None


def _in_words(fault: Exception) -> str:
    """Return the error in words, without the value that caused it, which may hold a password."""
    name = type(fault).__name__
    return f"{name}: {fault.strerror}" if isinstance(fault, OSError) and fault.strerror else name

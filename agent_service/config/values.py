"""Values with a syntax: names of variables, money, hosts, URLs, databases.

Each `valid_…` returns its argument, or raises ValueError with the allowed form. The text never repeats the value.
"""

from __future__ import annotations

import ipaddress
import json
import re
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

SQLITE = "sqlite:///"
MEMORY = "memory:"

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")

_FRAMING = re.compile(r"(?i)host|connection|content-.*|transfer-encoding|accept|accept-encoding|te|trailer|upgrade")
# Members set by adapters; members that would keep the conversation at the provider; members that are settings here.
_BODY_OURS = frozenset({"model", "messages", "input", "instructions", "stream", "tools", "store", "include", "n"})
_BODY_STATE = frozenset({"background", "conversation", "previous_response_id"})
_BODY_SETTINGS = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "reasoning_effort": "reasoning.effort",
}
_BODY_BYTES_MAX = 16 * 1024
_BODY_DEPTH_MAX = 16
_SECRETS = re.compile(r"(?i)authorization|cookie|api-?key|(^|[-_])(key|token|secret|password|auth)$")


def is_quoted(text: str) -> bool:
    """Return whether a value begins and ends with quotation marks, which were probably meant for a shell."""
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


QUOTED = "has quotation marks around it, which would be part of the value: remove them"


def is_variable(text: str) -> bool:
    """Return whether this may be the name of an environment variable with a key. Upper case is required, so that a key
    is not accepted as a name: problems repeat names.
    """
    return re.fullmatch(r"[A-Z_][A-Z0-9_]{0,127}", text) is not None


def nanos(amount: float) -> int:
    """Return an amount of money in billionths, exactly as it was written.

    Raises:
        ValueError: it has more than 9 decimals.
    """
    exact = Decimal(repr(amount)).scaleb(9)  # repr() of a float is the text that it was read from
    if exact != exact.to_integral_value():
        raise ValueError("must have at most 9 decimals")
    return int(exact)


def valid_money(value: float) -> float:
    nanos(value)
    return value


def valid_host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value):
            raise ValueError("must be an IP address or a host name, without a port") from None
    return value


def valid_http_url(value: str) -> str:
    """Return the URL.

    Raises:
        ValueError: it is not an http(s) URL, or has parts that may contain a secret; never repeats it.
    """
    try:
        url = urlsplit(value)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and not re.search(r"\s", value)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must be a URL such as https://host/v1")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("must have no user, password, query or fragment: keys belong in environment variables")
    return value


def valid_base_url(value: str) -> str:
    """Return the base URL of a provider's API, to which the paths of the methods are added."""
    path = urlsplit(valid_http_url(value)).path.rstrip("/")
    if found := re.search(r"(?i)/(chat/completions|completions|responses|embeddings|models)$", path):
        raise ValueError(f"must end before {found[0]}, which the service adds")
    return value


def valid_key_set(value: str) -> str:
    """Return an https URL, which cannot be intercepted on the way, or a path."""
    if not re.match(r"(?i)[a-z][a-z0-9+.-]*://", value):
        return value
    url = urlsplit(valid_http_url(value))
    if url.scheme != "https" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("must be an https URL, or a file")
    return value


def valid_header_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise ValueError("must be the name of a header: letters, digits and hyphens")
    if _FRAMING.fullmatch(value):
        raise ValueError("must not be a header that controls how a request is sent")
    return value


def valid_header_value(value: str) -> str:
    if not re.fullmatch(r"[!-~]([ -~]{0,4094}[!-~])?", value):
        raise ValueError("must be 1 to 4096 printable ASCII characters, without spaces around them")
    return value


def valid_extra_body(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object without members that the service sets itself."""
    for name in value:
        if name in _BODY_OURS | _BODY_STATE:
            raise ValueError(f"must not have {name}, which only the service sets")
        if name in _BODY_SETTINGS:
            raise ValueError(f"must not have {name}, which is the setting {_BODY_SETTINGS[name]}")
    if _depth(value) > _BODY_DEPTH_MAX:
        raise ValueError(f"must not be nested deeper than {_BODY_DEPTH_MAX}")
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("must not contain numbers that JSON lacks, such as .inf and .nan") from None
    if len(text.encode()) > _BODY_BYTES_MAX:
        raise ValueError(f"must be at most {_BODY_BYTES_MAX} bytes as JSON")
    return value


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def carries_secret(header: str) -> bool:
    """Return whether a header of this name may carry a secret."""
    return _SECRETS.search(header) is not None


def valid_database_url(value: str) -> str:
    if value == MEMORY:
        return value
    name = value.removeprefix(SQLITE)
    if name == value:
        raise ValueError("has no adapter in this version; supported: sqlite:///<path> and memory:")
    if not name or name.endswith("/") or ":memory:" in name:
        raise ValueError("must name a file, such as sqlite:///agent_service.db; without a file: memory:")
    if re.search(r"[?#\0]", name):
        raise ValueError("must be only a path, without ? or #")
    return value

"""The identities in a certificate: a URI such as `spiffe://prod/ns/agents/sa/worker`, or `dns:worker.example`.

They are read only from subject alternative names, never from the common name, which certificate authorities do not
check. This module does not depend on permissions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

DNS = "dns:"
LENGTH_MAX = 2048  # of a SPIFFE ID
DEPTH_MAX = 32

# A `*` may replace the rest of a path, never of a host name: `spiffe://prod*` would match `spiffe://prod.evil` too.
_NAME = re.compile(
    r"[a-z][a-z0-9+.-]*://[!-)+-.0-~]+(/[!-)+-~]*((?<=/)\*)?)?"  # visible ASCII; no / before the path
    r"|dns:[a-z0-9-]+(\.[a-z0-9-]+)*",
    re.ASCII,
)


def valid_name(text: str) -> str:
    """Return the name if it is valid: an identity, or a prefix of identities that ends in `/*`.

    Raises:
        ValueError: the name is neither.
    """
    if len(text) > LENGTH_MAX or text.count("/") > DEPTH_MAX or not _NAME.fullmatch(text):
        raise ValueError("must be a URI such as spiffe://domain/path, which may end in /*, or dns: and a host name")
    return text


def identities(uris: Iterable[bytes], names: Iterable[bytes]) -> Sequence[str]:
    """Return the identities in a certificate: its URIs with a host, and its DNS names."""
    texts = (uri.decode(errors="replace") for uri in uris)
    hosts = (name.decode(errors="replace").lower() for name in names)
    return [*(text for text in texts if "://" in text), *(DNS + host for host in hosts)]


def names_of(identity: str) -> Iterator[str]:
    """Yield the names that match an identity: itself, and each prefix of its path with a `*`."""
    yield identity
    authority = identity.find("://") + 3
    end = identity.find("/", authority) if authority > 2 else -1
    for _ in range(DEPTH_MAX):
        if end < 0:
            return
        yield identity[: end + 1] + "*"
        end = identity.find("/", end + 1)

"""Who a certificate says its holder is: a URI such as `spiffe://prod/ns/agents/sa/worker`, or `dns:worker.example`.

Read from subject alternative names alone, never from the common name, which certificate authorities do not check.
Knows nothing of who may do what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

DNS = "dns:"
LENGTH_MAX = 2048  # of a SPIFFE ID
DEPTH_MAX = 32

# A `*` may stand for the rest of a path, never of a name: `spiffe://prod*` would be `spiffe://prod.evil` too.
_NAME = re.compile(
    r"[a-z][a-z0-9+.-]*://[!-)+-.0-~]+(/[!-)+-~]*((?<=/)\*)?)?"  # visible ASCII; no / before the path
    r"|dns:[a-z0-9-]+(\.[a-z0-9-]+)*",
    re.ASCII,
)


def valid_name(text: str) -> str:
    """The name itself: an identity, or with `/*` at its end all those that begin like it.

    Raises:
        ValueError: it is neither.
    """
    if len(text) > LENGTH_MAX or text.count("/") > DEPTH_MAX or not _NAME.fullmatch(text):
        raise ValueError("must be a URI such as spiffe://domain/path, which may end in /*, or dns: and a host name")
    return text


def identities(uris: Iterable[bytes], names: Iterable[bytes]) -> Sequence[str]:
    """The identities in a certificate: of its URIs those with a host, and its DNS names."""
    texts = (uri.decode(errors="replace") for uri in uris)
    hosts = (name.decode(errors="replace").lower() for name in names)
    return [*(text for text in texts if "://" in text), *(DNS + host for host in hosts)]


def names_of(identity: str) -> Iterator[str]:
    """Return what an identity may be known by: itself, and each beginning of its path with a `*`."""
    yield identity
    authority = identity.find("://") + 3
    end = identity.find("/", authority) if authority > 2 else -1
    for _ in range(DEPTH_MAX):
        if end < 0:
            return
        yield identity[: end + 1] + "*"
        end = identity.find("/", end + 1)

"""Who is at the other end of a connection, as far as its address tells."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import unquote

# Whoever has an IPv6 address has all of its network, and may come from another one each time.
IPV6_PREFIX = 64


@lru_cache(maxsize=4096)
def address(peer: str) -> str:
    """A peer as grpc names it without its port, which is another one for each connection.

    `ipv4:127.0.0.1:55918` is `ipv4:127.0.0.1`; `ipv6:%5B2001:db8::17%5D:55918` is its network, `ipv6:2001:db8::/64`.
    What has no port, such as `unix:`, stays as it is.
    """
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0]
    if kind != "ipv6" or not host:
        return f"{kind}:{host}" if host else peer
    try:
        interface = ipaddress.IPv6Address(unquote(host).strip("[]").partition("%")[0])
    except ValueError:
        return f"{kind}:{host}"
    if interface.ipv4_mapped is not None:
        return f"ipv4:{interface.ipv4_mapped}"
    return f"ipv6:{ipaddress.IPv6Network((interface, IPV6_PREFIX), strict=False)}"

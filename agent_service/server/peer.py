"""The address of a peer, in the form in which calls are counted by address."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import unquote

# An IPv6 client owns a whole network, and may use another of its addresses for each connection.
IPV6_PREFIX = 64


@lru_cache(maxsize=4096)
def address(peer: str) -> str:
    """Return gRPC's name of a peer without its port, which differs for each connection.

    `ipv4:127.0.0.1:55918` becomes `ipv4:127.0.0.1`; `ipv6:%5B2001:db8::17%5D:55918` becomes its network,
    `ipv6:2001:db8::/64`. A peer without a port, such as `unix:`, is unchanged.
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

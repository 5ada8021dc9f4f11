"""Tells peers whose calls fail to authenticate again and again to slow down."""

from __future__ import annotations

from urllib.parse import unquote

from agent_service.errors import AuthenticationError
from agent_service.limits.peers import PeerFailures
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor

RULE = "auth_failures"


class AuthFailures(Interceptor):
    """Answers a failed authentication above the peer's maximum as rate limited. A valid key always passes: behind a
    proxy everybody has one address, and nobody may shut out the others there. See docs/adr/0007.
    """

    def __init__(self, failures_max: int, window_s: float) -> None:
        self._failures = PeerFailures(RULE, "failed authentications", failures_max, window_s)

    def on_begin(self, call: Call) -> None:
        # Not in `on_call`: the peer is not known there.
        if isinstance(call.error, AuthenticationError):
            call.error = self._failures.count(host_of(call.peer)) or call.error


def host_of(peer: str) -> str:
    """The address without the port, as `192.0.2.1` for gRPC's `ipv4:192.0.2.1:50412`; what is no address as it is."""
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer

"""Reads the identities in a caller's client certificate, if the server asks for one."""

from __future__ import annotations

from agent_service.keys.identity import identities
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor


class PeerIdentity(Interceptor[None]):
    """Sets `call.identities` at the begin of the call, because a later read may crash grpcio 1.81 and newer."""

    def on_call(self, call: Call) -> None:
        assert call.context is not None
        certificate = call.context.auth_context()
        call.identities = identities(certificate.get("peer_uri", ()), certificate.get("peer_dns", ()))

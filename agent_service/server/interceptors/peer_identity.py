"""Reads who a caller is by its client certificate, where the server asks for one."""

from __future__ import annotations

from agent_service.keys.identity import identities
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor


class PeerIdentity(Interceptor[None]):
    """Sets `call.identities`. When the call begins, and then only: later grpcio 1.81 and newer may crash."""

    async def on_call(self, call: Call) -> None:
        assert call.context is not None
        certificate = call.context.auth_context()
        call.identities = identities(certificate.get("peer_uri", ()), certificate.get("peer_dns", ()))

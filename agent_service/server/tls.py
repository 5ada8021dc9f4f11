"""Certificates as gRPC takes them: asked for at each handshake, so that new ones need no restart.

gRPC's TLS library speaks TLS 1.2 and 1.3, and nothing older; its Python binding lets nobody choose. Nor can it ask
clients for a certificate and go on without one: it asks all of them, or none.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

from agent_service.tls.certificates import Certificates


def server_credentials(current: Callable[[], Certificates]) -> grpc.ServerCredentials:
    """Credentials that are `current()` at every handshake. Connections that are there already stay.

    gRPC asks in a thread of its own: `current` must only look up.
    """
    given = first = current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        certificates = current()
        if certificates is given:
            return None
        given = certificates
        return _configuration(certificates)  # a new one each time: gRPC takes it for its own

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        changed,  # type: ignore[arg-type] # None says that nothing changed, which the stubs do not know
        require_client_authentication=first.client_ca is not None,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificates.key, certificates.chain)], certificates.client_ca)

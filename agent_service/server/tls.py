"""gRPC credentials that read the certificates at each handshake, so that new ones need no restart.

gRPC's TLS library supports TLS 1.2 and 1.3; its Python binding has no option for the version. It cannot make client
certificates optional either: it requires them from all clients, or from none.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

from agent_service.tls.certificates import Certificates


def server_credentials(current: Callable[[], Certificates]) -> grpc.ServerCredentials:
    """Return credentials that use `current()` at every handshake. Existing connections are not affected.

    gRPC calls `current` in a thread of its own; it must return immediately.
    """
    given = first = current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        certificates = current()
        if certificates is given:
            return None
        given = certificates
        return _configuration(certificates)  # a new object each time, because gRPC takes ownership of it

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        changed,  # type: ignore[arg-type] # None means no change, which the stubs do not declare
        require_client_authentication=first.client_ca is not None,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificates.key, certificates.chain)], certificates.client_ca)

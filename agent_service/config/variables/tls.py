"""TLS of the service's connections, and client certificates."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from agent_service.config.variables.field_types import Port, Variables


class TlsVariables(Variables):
    """TLS of the service's connections, and client certificates."""

    tls_cert_file: Path | None = Field(
        default=None,
        alias="TLS_CERT_FILE",
        title="TLS",
        description="A PEM file with the server's certificate, followed by its intermediate certificates. With it and"
        " TLS_KEY_FILE, API_PORT uses TLS. All three files are reloaded when they change.",
    )
    tls_key_file: Path | None = Field(
        default=None,
        alias="TLS_KEY_FILE",
        title="TLS",
        description="A PEM file with the certificate's private key, without a password.",
    )
    tls_client_ca_file: Path | None = Field(
        default=None,
        alias="TLS_CLIENT_CA_FILE",
        title="TLS",
        description="A PEM file with certificate authorities: every client must present a certificate signed by one of"
        " them.",
    )
    health_port: Port | None = Field(
        default=None,
        alias="HEALTH_PORT",
        title="TLS",
        description="A port without TLS that answers only health checks, for probes without TLS, such as those of"
        " Kubernetes; unset: none; 0 picks a free one.",
    )

"""How connections are protected, and which clients may make one."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from agent_service.config.variables.field_types import Port


class TlsVariables(BaseModel):
    """How connections are protected, and which clients may make one."""

    tls_cert_file: Path | None = Field(
        default=None,
        alias="TLS_CERT_FILE",
        title="TLS",
        description="A PEM file with the server's certificate, and below it those that it was signed with; with it and"
        " TLS_KEY_FILE, API_PORT speaks TLS. All three files are read again when they change.",
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
        description="A PEM file with certificate authorities: every client must show a certificate that one of them"
        " signed.",
    )
    health_port: Port | None = Field(
        default=None,
        alias="HEALTH_PORT",
        title="TLS",
        description="A port without TLS that answers health checks and nothing else, for probes that speak no TLS, such"
        " as those of Kubernetes; unset, none; 0 picks a free one.",
    )

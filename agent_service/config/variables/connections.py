"""Limits of connections."""

from __future__ import annotations

from pydantic import Field

from agent_service.config.variables.field_types import Variables

KIB = 1024
MIB = 1024 * KIB


class ConnectionsVariables(Variables):
    """Limits of connections. docs/adr/0011 gives the reasons for the defaults."""

    connections_max: int = Field(
        default=2048,
        alias="CONNECTIONS_MAX",
        title="Connections",
        description="The maximum number of connections; more are closed at once. Each needs a file descriptor.",
        ge=1,
        le=1_000_000,
    )
    streams_per_connection_max: int = Field(
        default=250,
        alias="STREAMS_PER_CONNECTION_MAX",
        title="Connections",
        description="The maximum number of concurrent calls on one connection; more wait at the client.",
        ge=1,
        le=100_000,
    )
    message_received_bytes_max: int = Field(
        default=4 * MIB,
        alias="MESSAGE_RECEIVED_BYTES_MAX",
        title="Connections",
        description="The maximum size of a request in bytes; a larger one is rejected with RESOURCE_EXHAUSTED.",
        ge=1 * MIB,
        le=64 * MIB,
    )
    message_sent_bytes_max: int = Field(
        default=16 * MIB,
        alias="MESSAGE_SENT_BYTES_MAX",
        title="Connections",
        description="The maximum size of a response in bytes. Clients in most languages accept 4 MiB by default.",
        ge=4 * MIB,
        le=64 * MIB,
    )
    metadata_bytes_max: int = Field(
        default=16 * KIB,
        alias="METADATA_BYTES_MAX",
        title="Connections",
        description="The maximum size of a call's metadata in bytes, as HTTP/2 counts it: 32 more for each entry."
        " Larger metadata is rejected with RESOURCE_EXHAUSTED.",
        ge=8 * KIB,
        le=1 * MIB,
    )
    connection_idle_s: float = Field(
        default=300.0,
        alias="CONNECTION_IDLE",
        title="Connections",
        description="Seconds without a call after which a connection is closed; 0: never. Clients reconnect when"
        " necessary.",
        ge=0,
        le=86_400,
        allow_inf_nan=False,
    )
    connection_age_s: float = Field(
        default=600.0,
        alias="CONNECTION_AGE",
        title="Connections",
        description="Seconds, plus or minus a tenth, after which a connection accepts no new calls, so that clients"
        " discover all replicas; 0: never.",
        ge=0,
        le=86_400,
        allow_inf_nan=False,
    )
    connection_age_grace_s: float = Field(
        default=3630.0,
        alias="CONNECTION_AGE_GRACE",
        title="Connections",
        description="Seconds after which the remaining calls of such a connection are aborted. A call that waits for"
        " its task may take an hour.",
        ge=1,
        le=86_400,
        allow_inf_nan=False,
    )
    keepalive_time_s: float = Field(
        default=60.0,
        alias="KEEPALIVE_TIME",
        title="Connections",
        description="Seconds of silence after which the server pings a client.",
        ge=1,
        le=86_400,
        allow_inf_nan=False,
    )
    keepalive_timeout_s: float = Field(
        default=20.0,
        alias="KEEPALIVE_TIMEOUT",
        title="Connections",
        description="Seconds without an answer to the ping after which the connection counts as lost.",
        ge=1,
        le=3600,
        allow_inf_nan=False,
    )
    handshake_timeout_s: float = Field(
        default=10.0,
        alias="HANDSHAKE_TIMEOUT",
        title="Connections",
        description="Seconds within which a new connection must begin HTTP/2 and acknowledge the server's settings.",
        ge=1,
        le=600,
        allow_inf_nan=False,
    )

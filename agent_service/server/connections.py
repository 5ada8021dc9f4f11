"""Bounds of a connection, and the gRPC options that set them."""

from __future__ import annotations

from dataclasses import dataclass

_UNLIMITED_MS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """The settings under the heading Connections; `idle_s` and `age_s` 0 are unlimited."""

    connections_max: int
    streams_max: int
    received_bytes_max: int
    sent_bytes_max: int
    metadata_bytes_max: int
    idle_s: float
    age_s: float
    age_grace_s: float
    keepalive_time_s: float
    keepalive_timeout_s: float
    handshake_timeout_s: float


def channel_options(bounds: ConnectionBounds) -> list[tuple[str, int]]:
    """Return the bounds as arguments of a gRPC server."""
    return [
        ("grpc.so_reuseport", 0),  # else a second process would silently share the port
        ("grpc.max_allowed_incoming_connections", bounds.connections_max),
        ("grpc.max_concurrent_streams", bounds.streams_max),
        ("grpc.max_receive_message_length", bounds.received_bytes_max),
        ("grpc.max_send_message_length", bounds.sent_bytes_max),
        # Between the two sizes gRPC refuses at random, more often for larger metadata. Equal sizes make it exact.
        ("grpc.max_metadata_size", bounds.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", bounds.metadata_bytes_max),
        ("grpc.max_connection_idle_ms", _ms(bounds.idle_s) or _UNLIMITED_MS),
        ("grpc.max_connection_age_ms", _ms(bounds.age_s) or _UNLIMITED_MS),
        ("grpc.max_connection_age_grace_ms", _ms(bounds.age_grace_s)),
        ("grpc.keepalive_time_ms", _ms(bounds.keepalive_time_s)),
        ("grpc.keepalive_timeout_ms", _ms(bounds.keepalive_timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Answering a ping costs nothing; counting it against a client costs 2 KB until the client disconnects.
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", _ms(bounds.handshake_timeout_s)),
        # The bounds hold only after the client has acknowledged the server's HTTP/2 settings.
        ("grpc.http2.settings_timeout", _ms(bounds.handshake_timeout_s)),
        # 1 allows only "identity", no compression. gRPC decompresses a whole message before it checks the size.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

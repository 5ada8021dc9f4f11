"""Builds the bounds of connections and calls from the settings."""

from __future__ import annotations

from agent_service.config.settings import Settings
from agent_service.server.connections import ConnectionBounds
from agent_service.server.interceptors.admission import AdmissionBounds, Bounds


def connection_bounds(settings: Settings) -> ConnectionBounds:
    """Return the bounds of a connection: its calls, sizes and lifetime."""
    return ConnectionBounds(
        connections_max=settings.connections_max,
        streams_max=settings.streams_per_connection_max,
        received_bytes_max=settings.message_received_bytes_max,
        sent_bytes_max=settings.message_sent_bytes_max,
        metadata_bytes_max=settings.metadata_bytes_max,
        idle_s=settings.connection_idle_s,
        age_s=settings.connection_age_s,
        age_grace_s=settings.connection_age_grace_s,
        keepalive_time_s=settings.keepalive_time_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
        handshake_timeout_s=settings.handshake_timeout_s,
    )


def admission_bounds(settings: Settings) -> AdmissionBounds:
    """Return the bounds of calls under way at once."""
    return AdmissionBounds(
        calls=Bounds(settings.calls_max, settings.calls_per_key_max, settings.calls_per_peer_max),
        open_calls=Bounds(settings.open_calls_max, settings.open_calls_per_key_max, settings.open_calls_per_peer_max),
        public_calls=Bounds(settings.public_calls_max, settings.public_calls_max, settings.public_calls_per_peer_max),
    )

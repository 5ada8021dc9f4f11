"""Options of the client's channels, and the calls that gRPC retries automatically."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from agent_service.v1 import agent_service_pb2 as pb

SERVICE: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["AgentService"]
LOOPBACK = ("localhost", "127.", "[::1]")
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
# A server that does not answer a ping in time counts as lost, also if its machine vanished.
PING_EVERY_S = 30.0
PING_TIMEOUT_S = 10.0
# Schemes of targets that gRPC resolves to several servers.
MANY = ("dns:", "ipv4:", "ipv6:")


def channel_options(target: str) -> list[tuple[str, Any]]:
    """Return the options of a channel."""
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", json.dumps(service_config(target))),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        # A separate connection, because servers limit the number of calls on each.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", round(PING_EVERY_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(PING_TIMEOUT_S * 1000)),
        ("grpc.http2.ping_timeout_ms", round(PING_TIMEOUT_S * 1000)),
        # Otherwise gRPC sends, after two pings, one per minute: a call that waits for a task may be silent for long.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if target.startswith(LOOPBACK):
        # An http_proxy of the environment must not be used for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def repeatable_methods() -> Sequence[str]:
    """Return the methods that are safe to repeat, by the contract's `idempotency_level`."""
    unknown = MethodOptions.IDEMPOTENCY_UNKNOWN
    return [method.name for method in SERVICE.methods if method.GetOptions().idempotency_level != unknown]


def service_config(target: str) -> dict[str, Any]:
    """Return the service config: round robin over servers; repeatable calls are retried while most of them succeed.

    With `dns:///agents:9000`, all servers of that name are used, and one that reports itself not ready is skipped. With
    a plain `host:port`, the server is always called, because its refusal has the reason.
    """
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": SERVICE.full_name, "method": method} for method in repeatable_methods()],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
    if target.startswith(MANY):
        config["healthCheckConfig"] = {"serviceName": ""}
    return config

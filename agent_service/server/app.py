"""The gRPC server: built, started, drained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from grpc import aio

from agent_service.errors import ConfigError
from agent_service.keys.base import Keys
from agent_service.limits.base import Limiter
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import NO_TRACER, Tracer
from agent_service.server.handlers import agent_service_handlers
from agent_service.server.health import Health, health_handlers
from agent_service.server.interceptors.access_log import AccessLog
from agent_service.server.interceptors.auth import Auth
from agent_service.server.interceptors.auth_failures import AuthFailures
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.interceptors.chain import Chain
from agent_service.server.interceptors.errors import Errors
from agent_service.server.interceptors.metrics import RpcMetrics
from agent_service.server.interceptors.rate_limit import RateLimit
from agent_service.server.interceptors.request_id import RequestId
from agent_service.server.interceptors.tracing import Tracing
from agent_service.server.readiness import Check, Readiness
from agent_service.server.reflection import reflection_handlers
from agent_service.server.servicer import AgentServicer
from agent_service.service.requests import RunTaskInput
from agent_service.service.service import Service

MIB = 1024 * 1024
# Calls that have been told to end get this long to do so.
STOP_S = 1.0

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),  # else a second process would silently share the port
    ("grpc.max_receive_message_length", 4 * MIB),
    ("grpc.max_send_message_length", 16 * MIB),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Calls at once on one connection; more wait at the client. Without it one connection that opens and resets streams
    # in a loop takes the whole server down. The slowest call of others beside 80,000 resets, and the memory after: over
    # 5 s and 700 MB without it, 2.7 s and 247 MB at 1000, 0.6 s and 97 MB at 250. At 100 a client with 64 calls under
    # way was refused some of them: a stream that has ended counts until the server has cleaned up after it.
    ("grpc.max_concurrent_streams", 250),
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen, and how to leave. `port` 0 takes a free one."""

    host: str
    port: int
    reflection: bool
    drain_delay_s: float
    drain_grace_s: float


class Server:
    """The service on a port."""

    def __init__(
        self,
        options: ServerOptions,
        service: Service,
        run_input: type[RunTaskInput],
        keys: Keys,
        limiter: Limiter,
        checks: dict[str, Check],
        log: EventLog,
        metrics: Metrics,
        models: Callable[[], Mapping[str, bool]] = dict,
        auth_failures: Limiter | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._options = options
        self._service = service
        self._log = log
        self._health = Health()
        self.readiness = Readiness(checks, self._health, log, metrics, models)
        chain = Chain(interceptors(keys, limiter, auth_failures, log, metrics, tracer), log)
        self._server = aio.server(interceptors=(chain,), options=CHANNEL_OPTIONS)
        handlers = [agent_service_handlers(AgentServicer(service, run_input)), health_handlers(self._health)]
        if options.reflection:
            handlers += reflection_handlers()
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def bind(self) -> int:
        """Take the address, without answering anybody yet; the port.

        Raises:
            ConfigError: the address cannot be had.
        """
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        address = f"{host}:{self._options.port}"
        try:
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            problem = f"cannot listen on {address}: another process has the port, or this machine not the address"
            raise ConfigError([problem]) from error

    async def start(self) -> None:
        """Answer calls on the address that `bind` took."""
        await self._server.start()
        await self.readiness.check()

    async def drain(self) -> None:
        """Leave without breaking anything: turn work away, let what runs end, let go of the rest durably, stop."""
        options = self._options
        self._log.info("draining", running=self._service.running, grace_s=options.drain_grace_s)
        self.readiness.drain()
        await asyncio.sleep(options.drain_delay_s)
        await self._service.drain(options.drain_grace_s)
        await self.stop()

    async def stop(self) -> None:
        """Stop listening; calls that still run get STOP_S to end."""
        self._health.end()
        await self._server.stop(STOP_S)


def interceptors(
    keys: Keys, limiter: Limiter, auth_failures: Limiter | None, log: EventLog, metrics: Metrics, tracer: Tracer
) -> list[Interceptor]:
    """In the order that `interceptors/__init__` gives the reasons for."""
    return [
        RequestId(),
        *([] if tracer is NO_TRACER else [Tracing(tracer)]),
        AccessLog(log),
        RpcMetrics(metrics),
        Errors(),
        *([AuthFailures(auth_failures)] if auth_failures else []),
        Auth(keys),
        RateLimit(limiter),
    ]

"""The gRPC server: built, started, drained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import grpc
from grpc import aio

from agent_service.errors import ConfigError
from agent_service.keys.base import Keys
from agent_service.limits.base import Limiter
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import NO_TRACER, Tracer
from agent_service.server.connections import ConnectionBounds, channel_options
from agent_service.server.handlers import agent_service_handlers
from agent_service.server.health import Health, health_handlers
from agent_service.server.interceptors.access_log import AccessLog
from agent_service.server.interceptors.admission import Admission, AdmissionBounds
from agent_service.server.interceptors.auth import Auth
from agent_service.server.interceptors.auth_failures import AuthFailures
from agent_service.server.interceptors.chain import Chain
from agent_service.server.interceptors.errors import Errors
from agent_service.server.interceptors.metrics import RpcMetrics
from agent_service.server.interceptors.peer_identity import PeerIdentity
from agent_service.server.interceptors.rate_limit import RateLimit
from agent_service.server.interceptors.request_id import RequestId
from agent_service.server.interceptors.tracing import BeginSpan, EndSpan
from agent_service.server.readiness import Check, Readiness
from agent_service.server.reflection import reflection_handlers
from agent_service.server.servicer import AgentServicer
from agent_service.server.tls import server_credentials
from agent_service.service.requests import RunTaskInput
from agent_service.service.service import Service
from agent_service.tls.certificates import Certificates

# Calls that have been told to end get this long to do so.
STOP_S = 1.0
# What a connection to the port for health may ask at once, and how much in one message.
PROBES_MAX = 8
PROBE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen, and how to leave. Port 0 takes a free one; without a `health_port` there is none."""

    host: str
    port: int
    health_port: int | None
    reflection: bool
    drain_delay_s: float
    drain_grace_s: float
    call_timeout_s: float
    admission: AdmissionBounds
    connections: ConnectionBounds


@dataclass(frozen=True, slots=True)
class Listening:
    """The ports that were taken."""

    port: int
    health_port: int | None


class Server:
    """The service on a port: with TLS where there are `certificates`, which may be others at every look."""

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
        certificates: Callable[[], Certificates] | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._options = options
        self._certificates = certificates
        self._service = service
        self._log = log
        self._health = Health()
        self.readiness = Readiness(checks, self._health, log, metrics, models)
        tracing = [] if tracer is NO_TRACER else [BeginSpan(tracer)]
        outer = [RequestId(), *([EndSpan()] if tracing else []), AccessLog(log), RpcMetrics(metrics), Errors()]
        identity = [PeerIdentity()] if certificates and certificates().client_ca is not None else []
        failures = [AuthFailures(auth_failures)] if auth_failures else []
        bounds = [Admission(options.admission, metrics), RateLimit(limiter)]
        # In the order that `interceptors/__init__` gives the reasons for.
        hooks = [*outer, *identity, *failures, Auth(keys), *tracing, *bounds]
        chain = Chain(hooks, log, call_timeout_s=options.call_timeout_s)
        self._server = aio.server(interceptors=(chain,), options=channel_options(options.connections))
        handlers = [agent_service_handlers(AgentServicer(service, run_input)), health_handlers(self._health)]
        if options.reflection:
            handlers += reflection_handlers()
        self._server.add_generic_rpc_handlers(tuple(handlers))
        health_chain = Chain(outer, log, call_timeout_s=options.call_timeout_s)
        health_connections = replace(options.connections, streams_max=PROBES_MAX, received_bytes_max=PROBE_BYTES_MAX)
        self._health_server = aio.server(interceptors=(health_chain,), options=channel_options(health_connections))
        self._health_server.add_generic_rpc_handlers((health_handlers(self._health),))

    async def bind(self) -> Listening:
        """Take the addresses, and answer nobody yet but who asks the port for health.

        Raises:
            ConfigError: an address cannot be had.
        """
        options = self._options
        credentials = server_credentials(self._certificates) if self._certificates else None
        port = _listen(self._server, options.host, options.port, credentials)
        if options.health_port is None:
            return Listening(port, None)
        health_port = _listen(self._health_server, options.host, options.health_port, None)
        await self._health_server.start()
        return Listening(port, health_port)

    async def start(self) -> None:
        """Answer calls on the address that `bind` took."""
        await self._server.start()
        await self.readiness.check()
        self._health.set_started()

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
        await asyncio.gather(self._server.stop(STOP_S), self._health_server.stop(STOP_S))


def _listen(server: aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        problem = f"cannot listen on {address}: another process has the port, or this machine not the address"
        raise ConfigError([problem]) from error

"""The gRPC server: bind, start, drain, stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import grpc
from grpc import aio

from agent_service.errors import ConfigError
from agent_service.server.connections import ConnectionBounds, channel_options
from agent_service.server.handlers import agent_service_handlers
from agent_service.server.health import Health, health_handlers
from agent_service.server.interceptors.admission import AdmissionBounds
from agent_service.server.interceptors.chain import Chain
from agent_service.server.methods import read_methods
from agent_service.server.readiness import Readiness
from agent_service.server.reflection import reflection_handlers
from agent_service.server.servicer import AgentServicer
from agent_service.server.stack import ServerParts, health_interceptors, interceptors
from agent_service.server.tls import server_credentials

# The grace for calls that still run at the stop.
STOP_S = 1.0
# Bounds of a connection to the health port: calls at once, and bytes of a message.
PROBES_MAX = 8
PROBE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Addresses, bounds and times of the server. Port 0 takes a free port; `health_port` None opens no such port."""

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
    """The ports that the server listens on."""

    port: int
    health_port: int | None


class Server:
    """The service on one port, and health on another."""

    def __init__(self, options: ServerOptions, parts: ServerParts) -> None:
        self._options = options
        self._certificates = parts.certificates
        self._service = parts.service
        self._log = parts.log
        self._health = Health()
        self.readiness = Readiness(parts.checks, self._health, parts.log, parts.metrics, parts.models)
        methods = read_methods()
        health = health_handlers(self._health)
        handlers = [agent_service_handlers(AgentServicer(parts.service, parts.run_input)), health]
        if options.reflection:
            handlers += reflection_handlers(methods.services)
        timeout_s = options.call_timeout_s
        stack = interceptors(parts, options.admission)
        chain = Chain(methods, handlers, stack, parts.log, call_timeout_s=timeout_s)
        self._server = _server(chain, options.connections)
        health_chain = Chain(methods, [health], health_interceptors(parts), parts.log, call_timeout_s=timeout_s)
        probes = replace(options.connections, streams_max=PROBES_MAX, received_bytes_max=PROBE_BYTES_MAX)
        self._health_server = _server(health_chain, probes)

    async def bind(self) -> Listening:
        """Bind the addresses. Only the health port answers calls from now on.

        Raises:
            ConfigError: an address cannot be bound.
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
        """Answer calls on the address that `bind` bound."""
        await self._server.start()
        await self.readiness.check()
        self._health.set_started()

    async def drain(self) -> None:
        """Drain: refuse new work, let running tasks end within the grace, release the rest durably, stop."""
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


def _server(chain: Chain, connections: ConnectionBounds) -> aio.Server:
    server = aio.server(options=channel_options(connections))
    server.add_generic_rpc_handlers((chain,))
    return server


def _listen(server: aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        problem = f"cannot listen on {address}: another process has the port, or this machine not the address"
        raise ConfigError([problem]) from error

"""Channelz, gRPC's statistics of its connections and streams, on a loopback port of its own.

It shows every peer's address and needs no key, so it is never served on the port that callers reach:

    grpcurl -plaintext localhost:9465 grpc.channelz.v1.Channelz/GetServers
"""

from __future__ import annotations

from grpc import aio
from grpc_channelz.v1 import channelz

from agent_service.errors import ConfigError
from agent_service.server.reflection import reflection_handlers

HOST = "127.0.0.1"
SERVICE = "grpc.channelz.v1.Channelz"


class ChannelzServer:
    """Listens from `start` to `stop`. `port` 0 takes a free one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = aio.server(options=(("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 10)))
        channelz.add_channelz_servicer(self._server)
        self._server.add_generic_rpc_handlers(tuple(reflection_handlers((SERVICE,))))

    async def start(self) -> int:
        """Start listening. Return the port.

        Raises:
            ConfigError: it cannot be bound.
        """
        try:
            port = self._server.add_insecure_port(f"{HOST}:{self._port}")
        except RuntimeError as error:
            raise ConfigError([f"CHANNELZ_PORT: cannot listen on {HOST}:{self._port}"]) from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        await self._server.stop(None)

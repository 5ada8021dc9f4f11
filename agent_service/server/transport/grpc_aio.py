"""The transport on `grpc.aio`, gRPC's public API for asyncio."""

from __future__ import annotations

import grpc
from grpc import aio

from agent_service.server.transport.base import Options


class AioTransport:
    """Hands everything on: `grpc.aio` calls the handlers itself, with contexts of its own."""

    def __init__(self, handlers: grpc.GenericRpcHandler, options: Options) -> None:
        self._server = aio.server(options=options)
        self._server.add_generic_rpc_handlers((handlers,))

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        if credentials is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, credentials)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)

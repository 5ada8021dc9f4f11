"""The transports that there are, each with handlers that a test writes, and clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from grpc import aio

from agent_service.server.transport.base import MakeTransport, Options, Transport
from agent_service.server.transport.grpc_aio import AioTransport
from agent_service.server.transport.loop.server import LoopTransport

TRANSPORTS: dict[str, MakeTransport] = {"aio": AioTransport, "loop": LoopTransport}
# What a stop leaves to calls that run.
GRACE_S = 0.1
LOCAL: Options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
# Else a second server would share a port.
EXCLUSIVE: Options = (("grpc.so_reuseport", 0),)

Handler = Callable[[Any, Any], Awaitable[Any]]


class Handlers(grpc.GenericRpcHandler):
    """Handlers by path. Messages are bytes."""

    def __init__(self) -> None:
        self._by_path: dict[str, Any] = {}

    def unary(self, path: str, handler: Handler) -> None:
        """A handler that returns its response."""
        self._by_path[path] = grpc.stream_unary_rpc_method_handler(handler)

    def stream(self, path: str, handler: Handler) -> None:
        """A handler that writes its responses to the context."""
        self._by_path[path] = grpc.stream_stream_rpc_method_handler(handler)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._by_path.get(handler_call_details.method)


@dataclass
class Served:
    """A started transport."""

    transport: Transport
    handlers: Handlers
    port: int

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def channel(self, *options: tuple[str, int]) -> Any:
        """A client's channel of its own connection; untyped, for bytes."""
        return aio.insecure_channel(self.target, options=(*LOCAL, *options))


class Serve(Protocol):
    """Starts a transport of the kind that a test is run on."""

    name: str
    make: MakeTransport

    def __call__(
        self, *options: tuple[str, int], credentials: grpc.ServerCredentials | None = None
    ) -> AbstractAsyncContextManager[Served]: ...


class Server:
    """`Serve` for one transport."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.make = TRANSPORTS[name]

    @asynccontextmanager
    async def __call__(
        self, *options: tuple[str, int], credentials: grpc.ServerCredentials | None = None
    ) -> AsyncIterator[Served]:
        handlers = Handlers()
        transport = self.make(handlers, (*EXCLUSIVE, *options))
        port = transport.listen("127.0.0.1:0", credentials)
        await transport.start()
        try:
            yield Served(transport, handlers, port)
        finally:
            await transport.stop(GRACE_S)


async def echo(_: Any, context: Any) -> Any:
    """The one request, as the response."""
    return await context.read()


async def refusal(call: Awaitable[Any]) -> aio.AioRpcError:
    """The error that a call ends with."""
    try:
        await call
    except aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")

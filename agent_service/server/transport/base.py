"""The port of transports: a transport binds ports, finds the handler of each call, and runs it with a context.

Its values are gRPC's public ones: `grpc.GenericRpcHandler`, `grpc.RpcMethodHandler`, credentials and status codes. A
handler is a coroutine function of `(requests, context)` that reads a stream of requests, as bytes. It returns its one
response, or it writes its responses to the context and returns None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
from grpc import aio

# What `read` returns when the client has sent all of its requests, or the call has ended.
END = aio.EOF
# Raised by `abort`. A handler must not replace or suppress it.
AbortError = aio.AbortError
# Raised where a message could not be sent: the call has ended.
NotSentError = aio.InternalError

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
Options: TypeAlias = Sequence[tuple[str, int]]


class CallInfo(Protocol):
    """The headers and the connection of a call. Read them when the call begins: docs/adr/0002."""

    def peer(self) -> str: ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    def time_remaining(self) -> float | None:
        """Return the seconds until the client's deadline; None if it set none."""
        ...


class Context(CallInfo, Protocol):
    """One call, as its handler sees it. The call counts against its connection's maximum until the context is freed.

    When the client cancels or the deadline passes, the task of the handler is cancelled. Contexts that can send
    without waiting have the attributes of an `Outlet` too: `is_ready` and `send`.
    """

    async def read(self) -> Any:
        """Return the next request, or END."""
        ...

    async def write(self, message: Any) -> None:
        """Send a response. Waits while there is no room: a slow reader slows the handler down. When it returns, one
        response may still be under way.

        Raises:
            NotSentError: the call has ended; for the last responses of a call only its cancellation tells.
        """
        ...

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None: ...

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
        """Send the status that ends the call; the metadata is a tuple.

        Raises:
            AbortError: always.
        """
        ...

    def code(self) -> Any:
        """Return the code that `abort` was given; None without one."""
        ...


class Transport(Protocol):
    """A server's ports, and the calls that come in on them."""

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Take `host:port`; return the port. Connections wait until `start`.

        Raises:
            RuntimeError: the address cannot be had.
        """
        ...

    async def start(self) -> None: ...

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and tell the clients so. Calls that run get `grace_s` to end, then they are cancelled."""
        ...


MakeTransport: TypeAlias = Callable[[grpc.GenericRpcHandler, Options], Transport]

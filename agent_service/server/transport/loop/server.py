"""The core's server: its ports, the calls that come in, and how it stops."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

import grpc

from agent_service.server.transport.base import Options
from agent_service.server.transport.loop.context import LoopContext, QueueState
from agent_service.server.transport.loop.core import (
    UNIMPLEMENTED,
    UNKNOWN,
    CompletionQueue,
    CoreServer,
    core_credentials,
)
from agent_service.server.transport.loop.pump import Pump

# Calls that the core may hand over before the loop asks for more.
REQUESTED = 64
# Calls that have been cancelled get this long to end.
CANCELED_S = 5.0

logger = logging.getLogger(__name__)


class _Details(NamedTuple):
    """The part of a call's details that the chain reads."""

    method: str


class LoopTransport:
    """Owns a server of the core and its completion queue. Make and use it on one event loop."""

    def __init__(self, handlers: grpc.GenericRpcHandler, options: Options) -> None:
        self._handlers: Any = handlers
        self._loop = asyncio.get_running_loop()
        self._queue = CompletionQueue()
        self._server = CoreServer(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._state = QueueState()
        self._pump = Pump(self._queue, self._request_call)
        self._tasks: set[asyncio.Task[None]] = set()
        self._down: asyncio.Future[None] = self._loop.create_future()
        self._is_started = False
        self._stopping: asyncio.Task[None] | None = None

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        where = address.encode()
        port: int = (
            self._server.add_http2_port(where, core_credentials(credentials))
            if credentials
            else self._server.add_http2_port(where)
        )
        if not port:
            raise RuntimeError(f"cannot listen on {address}")
        return port

    async def start(self) -> None:
        self._server.start()
        self._is_started = True
        for _ in range(REQUESTED):
            self._request_call()
        self._pump.start()

    async def stop(self, grace_s: float) -> None:
        if not self._is_started:
            return
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop(grace_s))
        await asyncio.shield(self._stopping)

    async def _stop(self, grace_s: float) -> None:
        self._server.shutdown(self._queue, self._on_down)
        await asyncio.wait((self._down,), timeout=grace_s)
        if not self._down.done():
            self._server.cancel_all_calls()
        await asyncio.wait((self._down, *self._tasks), timeout=CANCELED_S)
        if not self._down.done():
            # Destroying the server would wait for its calls, and block the loop.
            logger.error("calls of the server did not end")
            return
        self._server.destroy()
        self._state.is_open = False
        self._queue.shutdown()
        await self._pump.ended()

    def _request_call(self) -> None:
        if self._stopping is None:
            self._server.request_call(self._queue, self._queue, self._on_call)

    def _on_call(self, event: Any) -> None:
        self._request_call()
        if not event.success:
            return  # the server stops
        context = LoopContext(event, self._state, self._loop)
        try:
            path = event.call_details.method.decode()
        except UnicodeDecodeError:
            context.refuse(UNKNOWN, "the path is no UTF-8")
            return
        handler = self._handlers.service(_Details(path))
        if handler is None:
            context.refuse(UNIMPLEMENTED, "there is no such method")
            return
        task = context.start(handler)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_down(self, _: Any) -> None:
        if not self._down.done():
            self._down.set_result(None)

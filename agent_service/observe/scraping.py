"""Serves the metrics over HTTP without a risk for the service.

One thread with an event loop of its own serves all connections: the service's loop is not involved, and a scrape also
works while that loop is blocked. Connections are few and short, and slow ones are closed; if there are too many, the
newest is served. Rendering takes a tenth of one core at most, independent of the number of requests.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from threading import Thread

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

CONNECTIONS_MAX = 16
HEAD_BYTES_MAX = 8192
# The time a client has to send its request and to read the answer.
EXCHANGE_S = 10.0
# The part of the time that rendering may take.
DUTY = 0.1
CLOSE_S = 2.0


class MetricsServer:
    """Serves a registry at `/metrics` on `port` until it is closed; port 0 takes a free one.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._registry = registry
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self.port: int = self._socket.getsockname()[1]
        self._connections: dict[asyncio.Task[None], None] = {}
        self._renderings: dict[str, asyncio.Task[tuple[bytes, str]]] = {}
        self._renders_at = 0.0
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket, limit=HEAD_BYTES_MAX)
        await self._closing.wait()
        server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # lets the loop close their sockets

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            oldest = next(iter(self._connections))
            del self._connections[oldest]  # at once, because several may arrive before it has ended
            oldest.cancel()
        connection = asyncio.create_task(self._exchange(reader, writer))
        self._connections[connection] = None
        connection.add_done_callback(lambda ended: self._disconnect(ended, writer))

    def _disconnect(self, connection: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._connections.pop(connection, None)
        writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and send its answer."""
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(EXCHANGE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head.decode("latin-1")))
                writer.close()
                await writer.wait_closed()

    async def _answer(self, head: str) -> bytes:
        request, *lines = head.split("\r\n")
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED)
        if path not in ("/metrics", "/"):
            return _response(HTTPStatus.NOT_FOUND)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body, content_type = await self._rendered(headers.get("accept", ""))
        return _response(HTTPStatus.OK, body, content_type, with_body=method == "GET")

    async def _rendered(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics, rendered after this call began; concurrent callers share a rendering."""
        _, content_type = choose_encoder(accept)
        rendering = self._renderings.get(content_type)
        if rendering is None:
            rendering = self._renderings[content_type] = asyncio.create_task(self._render(accept, content_type))
        return await asyncio.shield(rendering)

    async def _render(self, accept: str, content_type: str) -> tuple[bytes, str]:
        await asyncio.sleep(self._renders_at - time.monotonic())
        del self._renderings[content_type]  # later callers need a newer rendering
        encode, _ = choose_encoder(accept)
        began = time.monotonic()
        body = encode(self._registry)
        now = time.monotonic()
        self._renders_at = now + (now - began) * (1 / DUTY - 1)
        return body, content_type


def _response(
    status: HTTPStatus, body: bytes = b"", content_type: str = "text/plain", *, with_body: bool = True
) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")

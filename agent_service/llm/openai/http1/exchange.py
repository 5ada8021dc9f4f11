"""One connection, and the exchange on it: a request, the head of its response, and the body."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import cast

import h11
import httpx2

from agent_service.llm.openai.http1.framing import Framing, FramingError, framing_of

HEAD_BYTES_MAX = 100 * 1024
# Content that was not taken yet; more is left to the network.
UNTAKEN_BYTES_MAX = 64 * 1024

Take = Callable[[bytes], bool]
Headers = Sequence[tuple[bytes, bytes]]


class Exchange(asyncio.Protocol):
    """A connection with at most one exchange at a time. Raises exceptions of httpx2.

    `is_reusable`: the last response is complete, and the next request may follow.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: h11.Connection | None = None  # until the head has arrived
        self._head: asyncio.Future[h11.Response] | None = None
        self._framing: Framing | None = None
        self._untaken: list[bytes] = []
        self._untaken_bytes = 0
        self._is_paused = False
        self._take: Take | None = None
        self._context: Context | None = None
        self._read: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._is_persistent = False
        self.is_reusable = True

    @property
    def is_stale(self) -> bool:
        """True if no request may follow: the server has closed the connection, sent what was not asked for, or does not
        read the request that it answered.
        """
        transport = self._transport
        return transport is None or transport.is_closing() or not _is_quiet(transport)

    def close(self) -> None:
        """Close the connection at once. A response that is not complete ends in an error."""
        self.is_reusable = False
        if self._framing is None or not self._framing.is_done:
            self._fail(httpx2.ReadError("the connection has been closed"))
        if self._transport is not None:
            self._transport.abort()

    async def send(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> h11.Response:
        """Send a request; return the head of its response.

        Raises:
            httpx2.LocalProtocolError: it is no valid request. httpx2.RemoteProtocolError, httpx2.ReadError: the
            connection broke, or its answer is no HTTP.
        """
        self.is_reusable = False
        self._framing = None
        self._untaken.clear()
        self._untaken_bytes = 0
        parser = self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        try:
            parts = [parser.send(h11.Request(method=method, target=target, headers=list(headers)))]
            parts += [parser.send(h11.Data(data=body))] if body else []
            parts.append(parser.send(h11.EndOfMessage()))
        except h11.LocalProtocolError as error:
            raise httpx2.LocalProtocolError(str(error)) from error
        if self._transport is None or self._error is not None:
            raise self._error or httpx2.ReadError("the connection is closed")
        self._head = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join(part for part in parts if part))
        try:
            return await self._head
        finally:
            self._head = None

    async def read_into(self, take: Take) -> None:
        """Give each piece of content to `take` when it arrives, until that returns True or the body ends.

        Raises:
            httpx2.RemoteProtocolError, httpx2.ReadError: the body broke off. Else what `take` raised.
        """
        while self._untaken:
            piece = self._untaken.pop(0)
            self._untaken_bytes -= len(piece)
            if take(piece):
                return
        if self._error is not None:
            raise self._error
        if self._framing is None or self._framing.is_done:
            return
        if self._is_paused and self._transport is not None:
            self._transport.resume_reading()
            self._is_paused = False
        self._take, self._context = take, copy_context()
        self._read = asyncio.get_running_loop().create_future()
        try:
            await self._read
        finally:
            self._take = self._context = self._read = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            if self._framing is None or self._parser is not None:
                self._add_head(data)
            else:
                self._add_content(data)
        except (h11.RemoteProtocolError, FramingError) as error:
            self._fail(httpx2.RemoteProtocolError(str(error)))
            self.close()

    def eof_received(self) -> None:
        """Let asyncio close the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self.is_reusable = None, False
        if self._framing is not None and self._parser is None:
            if self._framing.is_done or (exc is None and self._error is None and self._framing.ends_with_connection()):
                self._end()
                return
            words = "the connection ended before the response"
        else:
            words = "the server disconnected without a response"
        self._fail(httpx2.ReadError(str(exc)) if exc is not None else httpx2.RemoteProtocolError(words))

    def _add_head(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # a server that speaks without being asked
            return
        self._parser.receive_data(data)
        while (event := self._parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                rest, _ = self._parser.trailing_data
                self._parser = None
                self._begin_body(event)
                if rest:
                    self._add_content(rest)
                return
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise FramingError("the answer is no response")

    def _begin_body(self, head: h11.Response) -> None:
        self._framing = framing_of(head.status_code, head.headers)
        options = b",".join(value.lower() for name, value in head.headers if name == b"connection")
        is_closing = b"close" in (option.strip() for option in options.split(b","))
        self._is_persistent = head.http_version >= b"1.1" and not is_closing
        self.is_reusable = self._framing.is_done and self._is_persistent
        if self._head is not None and not self._head.done():
            self._head.set_result(head)

    def _add_content(self, data: bytes) -> None:
        assert self._framing is not None
        if self._framing.is_done:
            self.close()  # bytes that no request asked for
            return
        content = self._framing.content(data)
        if content:
            self._give(content)
        if self._framing.fault is not None:
            raise self._framing.fault
        if self._framing.is_done:
            self.is_reusable = self._is_persistent and not (self._framing.rest or self._is_paused)
            self._end()

    def _give(self, content: bytes) -> None:
        if self._take is None or self._context is None or self._read is None or self._read.done():
            self._untaken.append(content)
            self._untaken_bytes += len(content)
            if self._untaken_bytes > UNTAKEN_BYTES_MAX and not self._is_paused and self._transport is not None:
                self._is_paused = True
                self._transport.pause_reading()
            return
        try:
            # In the context of the task that reads: the transport's is that of the task that made the connection.
            if self._context.run(self._take, content):
                self._end()
        except Exception as error:  # noqa: BLE001 - raised where the body is read
            if not self._read.done():
                self._read.set_exception(error)

    def _end(self) -> None:
        if self._read is not None and not self._read.done():
            self._read.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        for waiter in (self._head, self._read):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)


def _is_quiet(transport: asyncio.Transport) -> bool:
    """Return whether a connection has nothing under way: neither bytes or the end of the connection, which the loop has
    still to read, nor a request that the server does not take. A transport over TLS does not tell what is unsent, but
    its socket has no room then.
    """
    polled = select.poll()
    polled.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLOUT)
    return not transport.get_write_buffer_size() and [event for _, event in polled.poll(0)] == [select.POLLOUT]

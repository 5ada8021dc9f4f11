"""An OpenAI-compatible HTTP server on a loopback socket that answers as its test tells it to, mostly badly.

    async with FakeProvider() as provider:
        provider.will(stream(text("Hello"), finish()), status(429, headers={"retry-after": "2"}))
        ...  # two requests to provider.base_url
        assert provider.requests[0].body["model"] == "gpt-4"

Questions for its models are answered by `models_reply` and not kept. Each other request takes the next reply; one that
finds none is answered by `otherwise`, status 599 unless a test sets it. A reply is a coroutine function of the
request's Exchange: the functions below make the usual ones, a test may write its own. HTTP/1.1, one request at a time
on a connection, connections kept alive.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came in. Header names are in lower case; `client_gone` is set when its client hangs up."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json
    connection: int
    client_gone: asyncio.Event


class Exchange:
    """One request and the means to answer it, byte by byte if need be."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._writer = writer
        self._is_chunked = False

    async def head(self, status: int, headers: Mapping[str, str], *, length: int | None = None) -> None:
        """Send the head of the response; without a `length` its body is sent in chunks."""
        self._is_chunked = length is None
        framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        lines = [f"HTTP/1.1 {status} Fake", *(f"{name}: {value}" for name, value in {**framing, **headers}.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        """Send some of the body."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        await self._writer.drain()

    async def end(self) -> None:
        """End a chunked body as it should."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def cut(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


Reply = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class FakeProvider:
    """The server. `connected` counts its connections so far; `errors` are those of its replies, raised at the end."""

    requests: list[Request] = field(default_factory=list)
    connected: int = 0
    errors: list[BaseException] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    models_reply: Reply = field(default_factory=lambda: status(200, {"data": []}))
    otherwise: Reply = field(default_factory=lambda: status(599))
    port: int = 0
    tls: ssl.SSLContext | None = None
    _replies: list[Reply] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def will(self, *replies: Reply) -> None:
        """Answer the next requests like this, in order."""
        self._replies.extend(replies)

    async def next_request(self) -> Request:
        """Wait until a request has come in since the last call; return the newest."""
        await self.arrived()
        return self.requests[-1]

    async def arrived(self) -> None:
        """Wait until a request of any kind has come in since the last call."""
        await self._arrived.wait()
        self._arrived.clear()

    async def __aenter__(self) -> FakeProvider:
        self._server = await asyncio.get_running_loop().create_server(
            self._protocol, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.errors:
            raise self.errors[0]

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        self.connected += 1
        number = self.connected
        reader = _Reader()

        def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.create_task(self._serve(reader, writer, number)))

        return asyncio.StreamReaderProtocol(reader, serve)

    async def _serve(self, reader: _Reader, writer: asyncio.StreamWriter, connection: int) -> None:
        try:
            while not writer.is_closing():
                request = await _read_request(reader, connection)
                if request is None:
                    return
                if request.method != "GET":
                    self.requests.append(request)
                self._arrived.set()
                if request.method == "GET":
                    reply = self.models_reply
                else:
                    reply = self._replies.pop(0) if self._replies else self.otherwise
                await reply(Exchange(request, writer))
        except ConnectionError:
            pass  # the client has gone: its `client_gone` says so
        except Exception as exc:  # noqa: BLE001 - raised where the test can see it
            self.errors.append(exc)
        finally:
            writer.close()


class _Reader(asyncio.StreamReader):
    """A StreamReader that says at once when nothing more can come."""

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        self.gone.set()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self.gone.set()
        super().set_exception(exc)


async def _read_request(reader: _Reader, connection: int) -> Request | None:
    """The next request; None if the client has hung up."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ")
    return Request(method, path, headers, orjson.loads(body or b"{}"), connection, reader.gone)


# Replies.


def stream(*pieces: Json | bytes, done: bool = True, headers: Mapping[str, str] | None = None) -> Reply:
    """An event stream: a dict is an event of its own, bytes are sent as they are, each in a write of its own."""

    async def reply(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream; charset=utf-8", **(headers or {})})
        for piece in pieces:
            await exchange.send(piece if isinstance(piece, bytes) else event(piece))
        if done:
            await exchange.send(b"data: [DONE]\n\n")
        await exchange.end()

    return reply


def cut_stream(*pieces: Json | bytes) -> Reply:
    """An event stream whose connection is reset after these pieces."""

    async def reply(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        for piece in pieces:
            await exchange.send(piece if isinstance(piece, bytes) else event(piece))
        exchange.cut()

    return reply


def hanging_stream(*pieces: Json | bytes) -> Reply:
    """An event stream that falls silent after these pieces, until the client hangs up."""

    async def reply(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        for piece in pieces:
            await exchange.send(piece if isinstance(piece, bytes) else event(piece))
        await exchange.request.client_gone.wait()

    return reply


def slow_stream(*pieces: Json | bytes, interval_s: float) -> Reply:
    """An event stream that sends a piece at every interval, the last one over and over, until the client hangs up."""

    async def reply(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        left = list(pieces)
        while not exchange.request.client_gone.is_set():
            piece = left.pop(0) if len(left) > 1 else left[0]
            await exchange.send(piece if isinstance(piece, bytes) else event(piece))
            await asyncio.sleep(interval_s)

    return reply


def document(body: Json | bytes, *, content_type: str = "application/json") -> Reply:
    """A reply in one piece, as of a server that does not stream."""
    return status(200, body, headers={"content-type": content_type})


def status(code: int, body: Json | bytes = b"", *, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply with this status."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)

    async def reply(exchange: Exchange) -> None:
        await exchange.head(code, {"content-type": "application/json", **(headers or {})}, length=len(data))
        await exchange.send(data)

    return reply


async def hang(exchange: Exchange) -> None:
    """Send nothing at all until the client hangs up."""
    await exchange.request.client_gone.wait()


async def hang_up(exchange: Exchange) -> None:
    """Close the connection without an answer."""
    exchange.cut()


# Chunks.


def event(chunk: Json) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(chunk)


def chunk(delta: Json, finish_reason: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake-1",
        "choices": [choice],
        "usage": None,
    }


def text(content: str) -> Json:
    return chunk({"content": content})


def tool_call(
    index: int | None = 0, call_id: str | None = None, name: str | None = None, arguments: object = None
) -> Json:
    """A chunk with a piece of a tool call; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call = {key: value for key, value in (("index", index), ("id", call_id)) if value is not None}
    return chunk({"tool_calls": [{**call, "type": "function", "function": function}]})


def finish(reason: str = "stop") -> Json:
    return chunk({}, reason)


def usage(prompt: object = 11, completion: object = 7, **more: object) -> Json:
    """The last chunk of a stream whose usage was asked for."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, **more}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake-1", "choices": [], "usage": counts}

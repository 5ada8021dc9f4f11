"""HTTP/2 by hand: calls that no gRPC library would make."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

PATIENCE_S = 20.0
Headers = Sequence[tuple[bytes | str, bytes | str]]


class Http2:
    """One connection. What comes is kept by stream until somebody asks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self._reader = reader
        self._writer = writer
        # What grpc sends is its affair, and what we send is meant to be wrong.
        configuration = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        self._connection = h2.connection.H2Connection(configuration)
        first = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        self._connection.local_settings = h2.settings.Settings(client=True, initial_values=first)
        self._headers: dict[int, dict[str, str]] = defaultdict(dict)
        # The number of bytes in the answer of each stream.
        self.received: dict[int, int] = defaultdict(int)
        self._ended: set[int] = set()
        self._is_closed = False
        # Why no more calls can begin on it: what the server said, or what of it was no HTTP/2.
        self.end = ""
        self.pings_answered = 0
        self._is_settled = False
        self._moved = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._connection.initiate_connection()
        self._flush()

    def begin(self, path: str | bytes, *more: tuple[str, str], content_type: str = "application/grpc") -> int:
        """Send the headers of a call and nothing else; its stream."""
        assert not self.end, f"no more calls on this connection: {self.end}"
        stream = self._connection.get_next_available_stream_id()
        headers: list[tuple[str, str | bytes]] = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "test"),
            ("te", "trailers"),
            ("content-type", content_type),
            *more,
        ]
        self._connection.send_headers(stream, headers)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send bytes of a call as they are."""
        self._connection.send_data(stream, data, end_stream=end)
        self._flush()

    async def send_whole(self, stream: int, data: bytes) -> None:
        """Send what is larger than a window, as the server makes room for it; it may hang up meanwhile."""
        rest = memoryview(data)
        while rest:
            async with asyncio.timeout(PATIENCE_S), self._moved:
                await self._moved.wait_for(lambda: self._room(stream) > 0 or stream in self._ended or self._is_closed)
            if stream in self._ended or self._is_closed:
                return
            size = min(self._room(stream), self._connection.max_outbound_frame_size)
            self._connection.send_data(stream, rest[:size].tobytes(), end_stream=size >= len(rest))
            self._flush()
            await self._writer.drain()
            rest = rest[size:]

    def _room(self, stream: int) -> int:
        if stream in self._ended or self._is_closed:
            return 0
        return self._connection.local_flow_control_window(stream)

    def reset(self, stream: int) -> None:
        """Cancel a call, unless it has ended."""
        if stream in self._ended:
            return
        self._connection.reset_stream(stream, error_code=8)
        self._flush()

    def ping(self) -> None:
        """Ask whether the server is there."""
        self._connection.ping(b"are you?")
        self._flush()

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self._is_closed

    async def headers(self, stream: int) -> dict[str, str]:
        """The headers of a call that is being answered."""
        async with asyncio.timeout(PATIENCE_S), self._moved:
            await self._moved.wait_for(lambda: stream in self._headers or self._is_closed)
        return self._headers[stream]

    async def answer(self, stream: int) -> dict[str, str]:
        """The headers and trailers of a call that has ended."""
        async with asyncio.timeout(PATIENCE_S), self._moved:
            await self._moved.wait_for(lambda: stream in self._ended or self._is_closed)
        return self._headers[stream]

    async def settled(self) -> None:
        """Wait until the server's settings are here: what it bounds by them, it does not bound before."""
        async with asyncio.timeout(PATIENCE_S), self._moved:
            await self._moved.wait_for(lambda: self._is_settled or self._is_closed)

    async def closed(self) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(PATIENCE_S), self._moved:
            await self._moved.wait_for(lambda: self._is_closed)

    def begin_reading(self) -> None:
        """Answer what the server sends, until `fall_silent`."""
        self._reading = asyncio.create_task(self.read())

    def fall_silent(self) -> None:
        """Read and answer nothing any more; the connection stays open."""
        if self._reading is not None:
            self._reading.cancel()

    async def read(self) -> None:
        """Take what the server sends, until it closes the connection."""
        while data := await self._read_some():
            try:
                events = self._connection.receive_data(data)
            except h2.exceptions.ProtocolError as error:
                self.end = repr(error)
                break
            self._flush()
            async with self._moved:
                for event in events:
                    self._take(event)
                self._moved.notify_all()
            self._flush()
        async with self._moved:
            self._is_closed = True
            self.end = self.end or "the server has closed it"
            self._moved.notify_all()

    async def _read_some(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except ConnectionError:
            return b""

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                text = {name.decode(): value.decode() for name, value in event.headers or ()}
                self._headers[event.stream_id or 0] |= text
            case h2.events.PingAckReceived():
                self.pings_answered += 1
            case h2.events.RemoteSettingsChanged():
                self._is_settled = True
            case h2.events.ConnectionTerminated():
                self.end = f"GOAWAY {event.error_code}, {event.additional_data!r}"
            case h2.events.DataReceived():
                self.received[event.stream_id or 0] += len(event.data or b"")
                self._connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            case h2.events.StreamEnded() | h2.events.StreamReset():
                self._ended.add(event.stream_id or 0)
            case _:
                pass

    def _flush(self) -> None:
        self._writer.write(self._connection.data_to_send())


@asynccontextmanager
async def http2(target: str, *, window: int = 65_535, source: str = "") -> AsyncIterator[Http2]:
    """A connection to `host:port`, without TLS, from the address `source`.

    `window` is how many bytes of each answer may come unasked.
    """
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0) if source else None)
    connection = Http2(reader, writer, window)
    connection.begin_reading()
    try:
        await connection.settled()
        yield connection
    finally:
        connection.fall_silent()
        writer.close()


def message(body: bytes) -> bytes:
    """A request as gRPC frames it: not compressed, its length, the bytes."""
    return b"\0" + len(body).to_bytes(4, "big") + body

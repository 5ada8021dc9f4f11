"""Frames of HTTP/2 (RFC 9113) made by hand, for what no library would send, and as fast as bytes can be copied."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from tests.faults.attacks.victim import ATTACKER, Victim
from tests.server.http2 import PATIENCE_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
FRAME_MAX = 16_384
# So many frames go into one write, and 20,000 into a second: enough to hurt, and not all that the machine can compute,
# which the innocent needs too.
BATCH = 100
PAUSE_S = 0.005
# The last ping of a connection: once it is answered, all that went before was looked at.
LAST = b"the last"


def frame(kind: int, stream: int = 0, payload: bytes = b"", *, flags: int = 0) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


HELLO = PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=ACK)


def header_block(headers: Sequence[tuple[str, str]]) -> bytes:
    """Headers as HPACK writes them where nothing is ever indexed (RFC 7541, 6.2.3): the same bytes for every call."""
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in headers)


def call_headers(path: str, *more: tuple[str, str]) -> bytes:
    """The header block of a call."""
    return header_block(
        (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "test"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *more,
        )
    )


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    length = b"\x7f"
    rest = len(data) - 127
    while rest >= 128:
        length += bytes((rest % 128 + 128,))
        rest //= 128
    return length + bytes((rest,)) + data


@asynccontextmanager
async def raw(target: str, source: str = ATTACKER) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain connection, on which nothing was said."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def pour(victim: Victim, frames: Callable[[int], bytes]) -> int:
    """Have the server take `frames(0)`, `frames(1)` … for as long as the attack lasts, on a new connection whenever it
    hangs up; the number of connections that it took.
    """
    connections = 0
    loop = asyncio.get_running_loop()
    ends = loop.time() + victim.lasts_s
    while loop.time() < ends:
        connections += 1
        async with raw(victim.target) as (reader, writer):
            taking = asyncio.create_task(_read_until(reader, LAST))
            with suppress(ConnectionError):
                writer.write(HELLO)
                for first in itertools.count(step=BATCH):
                    if taking.done() or loop.time() > ends:
                        break
                    writer.write(b"".join(map(frames, range(first, first + BATCH))))
                    await writer.drain()
                    await asyncio.sleep(PAUSE_S)
                writer.write(frame(PING, payload=LAST))
            async with asyncio.timeout(PATIENCE_S):
                await taking
    return connections


async def _read_until(reader: asyncio.StreamReader, mark: bytes) -> None:
    """Read what the server says up to that, or until it hangs up."""
    with suppress(ConnectionError):
        seen = b""
        while mark not in seen and (data := await reader.read(65_536)):
            seen = seen[-len(mark) :] + data

"""Connections that are many, or that take their time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

from tests.faults.attacks.frames import END_HEADERS, HEADERS, HELLO, PREFACE, call_headers, frame, raw
from tests.faults.attacks.victim import SERVICE, Victim
from tests.server.http2 import PATIENCE_S


async def _open(victim: Victim, stack: AsyncExitStack, number: int) -> list[asyncio.StreamReader]:
    connections = [await stack.enter_async_context(raw(victim.target)) for _ in range(number)]
    return [reader for reader, _ in connections]


async def _closed(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass


async def connects_and_says_nothing(victim: Victim) -> None:
    """Each is closed at the end of its time for a handshake."""
    async with AsyncExitStack() as stack:
        readers = await _open(victim, stack, victim.times(200))
        await asyncio.gather(*map(_closed, readers))


async def says_hello_byte_by_byte(victim: Victim) -> None:
    """Slow headers: the bytes come, and the handshake never ends."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed = asyncio.create_task(_closed(reader))
        with suppress(ConnectionError):
            for byte in PREFACE:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.wait([closed], timeout=0.2)
                if closed.done():
                    break
        await closed

    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(raw(victim.target)) for _ in range(victim.times(100))]
        await asyncio.gather(*(speak(*pair) for pair in pairs))


async def begins_calls_byte_by_byte(victim: Victim) -> None:
    """The frame of its headers never ends: such a connection holds itself alone."""
    head = frame(HEADERS, 1, call_headers(f"{SERVICE}/RunTask", ("x-api-key", victim.key)), flags=END_HEADERS)
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(raw(victim.target)) for _ in range(victim.times(100))]
        for _, writer in pairs:
            writer.write(HELLO)
        ends = asyncio.get_running_loop().time() + victim.lasts_s
        for byte in head[:-1]:
            for _, writer in pairs:
                writer.write(bytes((byte,)))
            await asyncio.sleep(0.05)
            if asyncio.get_running_loop().time() > ends:
                break


async def connects_and_leaves(victim: Victim) -> None:
    """One after the other, with and without a hello."""
    for number in range(victim.times(2000)):
        with suppress(ConnectionError):
            async with raw(victim.target) as (_, writer):
                if number % 2:
                    writer.write(HELLO)
                    await writer.drain()


async def connects_more_often_than_the_server_lets_it(victim: Victim) -> None:
    """Those that are too many are closed; who was there before notices nothing."""
    async with AsyncExitStack() as stack:
        readers = await _open(victim, stack, victim.times(600))
        closed = [asyncio.create_task(_closed(reader)) for reader in readers]
        await asyncio.gather(*closed)


async def speaks_something_else(victim: Victim) -> None:
    """HTTP/1, TLS, and noise."""
    for number in range(victim.times(300)):
        hello = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\xff" * 100)[
            number % 3
        ]
        with suppress(ConnectionError):
            async with raw(victim.target) as (reader, writer):
                writer.write(hello)
                writer.write_eof()
                await _closed(reader)

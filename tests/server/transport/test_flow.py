"""Flow control: what happens to a handler whose client reads slowly, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.http2 import http2, message
from tests.server.transport.serving import Serve, echo

PATH = "/test.Service/Call"
ECHO = "/test.Service/Echo"
CHUNK = bytes(65_536)
PATIENCE_S = 20.0


class Writer:
    """Writes so many chunks, and counts those that were taken."""

    def __init__(self, chunks: int) -> None:
        self._chunks = chunks
        self.written = 0
        self.ended = asyncio.Event()

    async def handle(self, _: Any, context: Any) -> None:
        try:
            for number in range(self._chunks):
                await context.write(number.to_bytes(4, "big") + CHUNK)
                self.written += 1
        finally:
            self.ended.set()

    async def stalls(self) -> int:
        """How many it had written when no more were taken for a while."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                before = self.written
                await asyncio.sleep(0.2)
                if self.written == before:
                    return before


async def test_a_handler_waits_for_a_client_that_does_not_read_and_goes_on_when_it_does(serve: Serve) -> None:
    writer = Writer(1000)
    async with serve() as served, served.channel() as channel:
        served.handlers.stream(PATH, writer.handle)
        served.handlers.unary(ECHO, echo)
        call = channel.unary_stream(PATH)(b"")
        assert await writer.stalls() < 500
        assert await channel.unary_unary(ECHO)(b"a") == b"a"
        numbers = [int.from_bytes(chunk[:4], "big") async for chunk in call]
        assert numbers == list(range(1000))
        assert writer.written == 1000


async def test_a_client_without_a_window_holds_its_handler_up_and_nobody_else(serve: Serve) -> None:
    writer = Writer(1000)
    async with serve() as served, http2(served.target, window=0) as connection, served.channel() as channel:
        served.handlers.stream(PATH, writer.handle)
        served.handlers.unary(ECHO, echo)
        stream = connection.begin(PATH)
        connection.send(stream, message(b""), end=True)
        assert await writer.stalls() <= 2
        for _ in range(20):
            assert await channel.unary_unary(ECHO)(b"a") == b"a"
        assert not writer.ended.is_set()
        connection.reset(stream)
        async with asyncio.timeout(PATIENCE_S):
            await writer.ended.wait()


async def test_a_client_that_sends_faster_than_the_handler_reads_is_held_up(serve: Serve) -> None:
    may_read = asyncio.Event()
    read = 0

    async def slow(requests: Any, _: Any) -> bytes:
        nonlocal read
        await may_read.wait()
        async for _request in requests:
            read += 1
        return b"done"

    sent = 0
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, slow)
        call = channel.stream_unary(PATH)()

        async def send() -> None:
            nonlocal sent
            for _ in range(1000):
                await call.write(CHUNK)
                sent += 1
            await call.done_writing()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(PATIENCE_S):
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.2)
        assert sent < 500
        may_read.set()
        await sending
        assert await call == b"done"
        assert read == 1000


# A window of one byte takes a round trip for each: on a busy machine a millisecond.
@pytest.mark.parametrize(("window", "size"), [(1, 2_000), (100, 20_000), (65_535, 100_000)])
async def test_a_message_larger_than_the_window_arrives_whole(serve: Serve, window: int, size: int) -> None:
    async with serve() as served, http2(served.target, window=window) as connection:
        served.handlers.unary(PATH, echo)
        stream = connection.begin(PATH)
        await connection.send_whole(stream, message((CHUNK * 4)[:size]))
        assert (await connection.answer(stream))["grpc-status"] == "0"

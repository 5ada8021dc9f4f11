"""What the core bounds by its options: messages, metadata, calls at once on a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.server.http2 import http2, message
from tests.server.transport.serving import Serve, echo, refusal

PATH = "/test.Service/Call"
ECHO = "/test.Service/Echo"
PATIENCE_S = 20.0


async def test_a_request_above_the_bound_is_resource_exhausted_and_its_connection_goes_on(serve: Serve) -> None:
    async with serve(("grpc.max_receive_message_length", 1000)) as served, served.channel() as channel:
        served.handlers.unary(PATH, echo)
        for _ in range(3):
            assert await channel.unary_unary(PATH)(bytes(1000)) == bytes(1000)
            error = await refusal(channel.unary_unary(PATH)(bytes(1001)))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("streams", [False, True])
async def test_a_response_above_the_bound_is_not_sent_and_the_call_ends(serve: Serve, streams: bool) -> None:
    ended = asyncio.Event()

    async def unary(_: Any, __: Any) -> bytes:
        ended.set()
        return bytes(1001)

    async def stream(_: Any, context: Any) -> None:
        try:
            await context.write(bytes(1001))
        finally:
            ended.set()

    async with serve(("grpc.max_send_message_length", 1000)) as served, served.channel() as channel:
        served.handlers.unary(ECHO, echo)
        if streams:
            served.handlers.stream(PATH, stream)
        else:
            served.handlers.unary(PATH, unary)
        error = await refusal(channel.unary_stream(PATH)(b"", timeout=PATIENCE_S).read())
        assert error.code() not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        assert await channel.unary_unary(ECHO)(b"a") == b"a"


async def test_metadata_above_the_bound_is_resource_exhausted(serve: Serve) -> None:
    bounds = (("grpc.max_metadata_size", 8192), ("grpc.absolute_max_metadata_size", 8192))
    async with serve(*bounds) as served, http2(served.target) as connection:
        served.handlers.unary(PATH, echo)
        for length, status in ((4000, "0"), (9000, "8"), (4000, "0")):
            stream = connection.begin(PATH, ("x-pad", "a" * length))
            connection.send(stream, message(b""), end=True)
            assert (await connection.answer(stream))["grpc-status"] == status


async def test_a_connection_has_so_many_calls_at_once(serve: Serve) -> None:
    begun = 0
    may_end = asyncio.Event()

    async def hold(_: Any, context: Any) -> Any:
        nonlocal begun
        begun += 1
        await may_end.wait()
        return await context.read()

    async with serve(("grpc.max_concurrent_streams", 3)) as served, served.channel() as channel:
        served.handlers.unary(PATH, hold)
        served.handlers.unary(ECHO, echo)
        await channel.unary_unary(ECHO)(b"")  # the client knows the bound
        bodies = [str(number).encode() for number in range(5)]
        calls = [asyncio.ensure_future(channel.unary_unary(PATH)(body)) for body in bodies]
        async with asyncio.timeout(PATIENCE_S):
            while begun < 3:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert begun == 3
        may_end.set()
        # The core refuses the next ones as long as Python holds one that has ended.
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [end for end in ends if isinstance(end, bytes)][:3] == bodies[:3]


async def test_a_call_that_has_returned_leaves_its_place_at_once(serve: Serve) -> None:
    """And not when Python collects its garbage: the connection would take no more calls until then."""
    async with serve(("grpc.max_concurrent_streams", 40)) as served, http2(served.target) as connection:
        served.handlers.unary(PATH, echo)
        for _ in range(30):
            streams = [connection.begin(PATH) for _ in range(10)]
            for stream in streams:
                connection.send(stream, message(b""), end=True)
            assert {(await connection.answer(stream)).get("grpc-status") for stream in streams} == {"0"}

"""What a call carries, in both directions and in which order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest

from tests.server.http2 import http2, message
from tests.server.transport.serving import Serve, echo, refusal

PATH = "/test.Service/Call"
MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, MIB])
async def test_a_response_is_what_the_handler_returned(serve: Serve, size: int) -> None:
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, echo)
        assert await channel.unary_unary(PATH)(b"x" * size) == b"x" * size


async def test_calls_at_once_get_each_its_own_response(serve: Serve) -> None:
    async def turn(_: Any, context: Any) -> Any:
        request = await context.read()
        await asyncio.sleep(0)
        return request

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, turn)
        bodies = [str(number).encode() for number in range(1000)]
        assert await asyncio.gather(*(channel.unary_unary(PATH)(body) for body in bodies)) == bodies


async def test_messages_keep_their_order_in_both_directions(serve: Serve) -> None:
    async def forward(requests: Any, context: Any) -> None:
        async for request in requests:
            await context.write(request)
            await context.write(request + b"!")

    async with serve() as served, served.channel() as channel:
        served.handlers.stream(PATH, forward)
        call = channel.stream_stream(PATH)()

        async def send() -> None:
            for number in range(500):
                await call.write(str(number).encode())
            await call.done_writing()

        sending = asyncio.create_task(send())
        received = [response async for response in call]
        await sending
        assert received == [f"{number}{end}".encode() for number in range(500) for end in ("", "!")]
        assert await call.code() is grpc.StatusCode.OK


async def test_a_client_that_has_sent_all_may_still_receive(serve: Serve) -> None:
    async def last(requests: Any, context: Any) -> None:
        assert [request async for request in requests] == [b"a", b"b"]
        for _ in range(3):
            await context.write(b"c")

    async with serve() as served, served.channel() as channel:
        served.handlers.stream(PATH, last)
        call = channel.stream_stream(PATH)(iter((b"a", b"b")))
        assert [response async for response in call] == [b"c", b"c", b"c"]


async def test_a_handler_need_not_read(serve: Serve) -> None:
    async def answer(_: Any, __: Any) -> bytes:
        return b"unread"

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, answer)
        for _ in range(3):
            assert await channel.unary_unary(PATH)(bytes(MIB)) == b"unread"


async def test_metadata_arrives_with_every_value_of_every_key(serve: Serve) -> None:
    seen: list[tuple[str, Any]] = []

    async def look(_: Any, context: Any) -> bytes:
        seen.extend((key, value) for key, value in context.invocation_metadata())
        return b""

    sent = [("a", "1"), ("b-bin", b"\x00\xff"), ("a", "2"), ("c", "with spaces, and ~")]
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, look)
        await channel.unary_unary(PATH)(b"", metadata=sent)
    assert sorted(entry for entry in seen if entry[0] in ("a", "b-bin", "c")) == sorted(sent, key=str)


async def test_initial_metadata_is_sent_before_the_response_is_there(serve: Serve) -> None:
    may_end = asyncio.Event()

    async def early(_: Any, context: Any) -> bytes:
        await context.send_initial_metadata((("x-early", "1"), ("x-bin", b"\x00\xfe")))
        await may_end.wait()
        return b"late"

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, early)
        call = channel.unary_stream(PATH)(b"")
        metadata = dict(await call.initial_metadata())
        assert not call.done()
        assert (metadata["x-early"], metadata["x-bin"]) == ("1", b"\x00\xfe")
        may_end.set()
        assert await call.read() == b"late"


@pytest.mark.parametrize("streams", [False, True])
async def test_initial_metadata_right_before_a_response_arrives_too(serve: Serve, streams: bool) -> None:
    async def unary(_: Any, context: Any) -> bytes:
        await context.send_initial_metadata((("x-id", "7"),))
        return b"a"

    async def stream(_: Any, context: Any) -> None:
        await context.send_initial_metadata((("x-id", "7"),))
        await context.write(b"a")

    async with serve() as served, served.channel() as channel:
        if streams:
            served.handlers.stream(PATH, stream)
        else:
            served.handlers.unary(PATH, unary)
        call = channel.unary_stream(PATH)(b"")
        assert [response async for response in call] == [b"a"]
        assert dict(await call.initial_metadata())["x-id"] == "7"


async def test_an_abort_sends_its_code_text_and_trailers(serve: Serve) -> None:
    async def refuse(_: Any, context: Any) -> None:
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "voll, 100 % — ü", (("x-why", "full"), ("x-why-bin", b"\x01\x02"))
        )

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, refuse)
        error = await refusal(channel.unary_unary(PATH)(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "voll, 100 % — ü")
        trailers = dict(error.trailing_metadata())
        assert (trailers["x-why"], trailers["x-why-bin"]) == ("full", b"\x01\x02")


async def test_an_abort_ends_a_stream_behind_what_was_written(serve: Serve) -> None:
    async def some(_: Any, context: Any) -> None:
        await context.send_initial_metadata((("x-id", "7"),))
        await context.write(b"a")
        await context.abort(grpc.StatusCode.ABORTED, "enough", ())

    async with serve() as served, served.channel() as channel:
        served.handlers.stream(PATH, some)
        call = channel.unary_stream(PATH)(b"")
        assert await call.read() == b"a"
        assert dict(await call.initial_metadata())["x-id"] == "7"
        assert (await refusal(call.read())).code() is grpc.StatusCode.ABORTED


async def test_a_status_that_was_sent_stands_also_where_the_handler_goes_on(serve: Serve) -> None:
    async def stubborn(_: Any, context: Any) -> bytes:
        for code in (grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL):
            with suppress(Exception):  # a handler with a bug
                await context.abort(code, "first", ())
        return b"second"

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, stubborn)
        error = await refusal(channel.unary_unary(PATH)(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "first")


async def test_an_abort_from_another_task_ends_a_handler_that_reads(serve: Serve) -> None:
    ended = asyncio.Event()

    async def wait(_: Any, context: Any) -> Any:
        async def end() -> None:
            with pytest.raises(Exception, match=r"(?i)abort"):
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late", ())

        aborting = asyncio.ensure_future(end())
        try:
            return await context.read()
        finally:
            await aborting
            ended.set()

    async with serve() as served, http2(served.target) as connection:
        served.handlers.unary(PATH, wait)
        stream = connection.begin(PATH)  # headers, and never a request
        assert (await connection.answer(stream))["grpc-status"] == "4"
        async with asyncio.timeout(20):
            await ended.wait()


@pytest.mark.parametrize("streams", [False, True])
async def test_a_handler_that_raises_is_unknown_and_harms_no_other_call(serve: Serve, streams: bool) -> None:
    async def broken(_: Any, __: Any) -> None:
        raise ValueError("a bug")

    async with serve() as served, served.channel() as channel:
        if streams:
            served.handlers.stream(PATH, broken)
        else:
            served.handlers.unary(PATH, broken)
        served.handlers.unary("/test.Service/Echo", echo)
        error = await refusal(channel.unary_stream(PATH)(b"").read())
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert await channel.unary_unary("/test.Service/Echo")(b"a") == b"a"


async def test_a_path_without_a_handler_is_unimplemented(serve: Serve) -> None:
    async with serve() as served, served.channel() as channel:
        assert (await refusal(channel.unary_unary(PATH)(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_path_that_is_no_text_is_refused_and_harms_nobody(serve: Serve) -> None:
    async with serve() as served, http2(served.target) as connection, served.channel() as channel:
        served.handlers.unary(PATH, echo)
        for _ in range(200):
            stream = connection.begin(b"/\xff\xfe/x")
            connection.send(stream, message(b""), end=True)
            assert (await connection.answer(stream))["grpc-status"] == "2"
        assert await channel.unary_unary(PATH)(b"a") == b"a"


async def test_metadata_that_is_no_text_harms_nobody(serve: Serve) -> None:
    async with serve() as served, http2(served.target) as connection, served.channel() as channel:
        served.handlers.unary(PATH, echo)
        for _ in range(200):
            stream = connection.begin(PATH, (b"x-odd", b"\xff\xfe"))  # type: ignore[arg-type] # no text
            connection.send(stream, message(b""), end=True)
            await connection.answer(stream)
        assert await channel.unary_unary(PATH)(b"a") == b"a"


async def test_a_handler_sees_who_calls(serve: Serve) -> None:
    seen: list[Any] = []

    async def look(_: Any, context: Any) -> bytes:
        seen.append((context.peer(), context.auth_context(), context.time_remaining()))
        return b""

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, look)
        await channel.unary_unary(PATH)(b"")
        await channel.unary_unary(PATH)(b"", timeout=60)
    (peer, auth, never), (_, _, left_s) = seen
    assert peer.startswith("ipv4:127.0.0.1:")
    assert auth["transport_security_type"] == [b"insecure"]
    assert never is None
    assert 30 < left_s < 61

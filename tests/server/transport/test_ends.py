"""How calls end before their handlers do: by the client, by a deadline, by a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest

from agent_service.server.transport.base import NotSentError
from tests.server.http2 import http2, message
from tests.server.transport.serving import Serve, echo, refusal

PATH = "/test.Service/Call"
PATIENCE_S = 20.0


class Watched:
    """A handler that waits at one place, and what became of it: it is cancelled, or what it writes is not sent."""

    def __init__(self, wait: Callable[[Any], Awaitable[Any]]) -> None:
        self._wait = wait
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.was_cancelled = False
        self.left_s: float | None = None

    async def handle(self, _: Any, context: Any) -> None:
        self.begun.set()
        try:
            await self._wait(context)
        except (asyncio.CancelledError, NotSentError):
            self.was_cancelled = True
            raise
        finally:
            self.left_s = context.time_remaining()
            self.ended.set()

    async def has_ended(self) -> bool:
        """Wait for its end. Whether it was cancelled."""
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.wait()
        return self.was_cancelled


async def waits(_: Any) -> None:
    await asyncio.Event().wait()


async def writes(context: Any) -> None:
    while True:
        await context.write(bytes(65_536))


async def sends_headers_and_waits(context: Any) -> None:
    await context.send_initial_metadata((("x-id", "7"),))
    await asyncio.Event().wait()


EACH = pytest.mark.parametrize("wait", [waits, writes, sends_headers_and_waits])


@EACH
async def test_a_client_that_cancels_cancels_the_handler(serve: Serve, wait: Callable[[Any], Awaitable[Any]]) -> None:
    watched = Watched(wait)
    async with serve() as served, served.channel() as channel:
        served.handlers.stream(PATH, watched.handle)
        call = channel.stream_stream(PATH)()
        await call.write(b"a")
        await watched.begun.wait()
        call.cancel()
        assert await watched.has_ended()


@EACH
async def test_a_stream_that_is_reset_cancels_the_handler(serve: Serve, wait: Callable[[Any], Awaitable[Any]]) -> None:
    watched = Watched(wait)
    async with serve() as served, http2(served.target) as connection:
        served.handlers.stream(PATH, watched.handle)
        stream = connection.begin(PATH)
        await watched.begun.wait()
        connection.reset(stream)
        assert await watched.has_ended()


@EACH
async def test_a_connection_that_is_lost_cancels_its_handlers(
    serve: Serve, wait: Callable[[Any], Awaitable[Any]]
) -> None:
    watched = Watched(wait)
    async with serve() as served:
        served.handlers.stream(PATH, watched.handle)
        async with http2(served.target) as connection:
            connection.begin(PATH)
            await watched.begun.wait()
        assert await watched.has_ended()


async def test_a_client_that_falls_silent_is_found_by_pings_and_its_handlers_are_cancelled(serve: Serve) -> None:
    watched = Watched(waits)
    # The core waits a minute for the answer to a ping, whatever the second says, without the third.
    pings = (("grpc.keepalive_time_ms", 500), ("grpc.keepalive_timeout_ms", 500), ("grpc.http2.ping_timeout_ms", 500))
    async with serve(*pings) as served, http2(served.target) as connection:
        served.handlers.stream(PATH, watched.handle)
        connection.begin(PATH)
        await watched.begun.wait()
        connection.fall_silent()
        assert await watched.has_ended()


async def test_a_client_that_leaves_while_the_handler_reads_ends_it(serve: Serve) -> None:
    """It reads END, and is cancelled: in which order is the core's affair."""
    got: list[Any] = []

    async def reads(context: Any) -> None:
        got.append(await context.read())
        await asyncio.Event().wait()

    watched = Watched(reads)
    async with serve() as served, http2(served.target) as connection:
        served.handlers.stream(PATH, watched.handle)
        stream = connection.begin(PATH)
        await watched.begun.wait()
        connection.reset(stream)
        assert await watched.has_ended()


@EACH
async def test_a_deadline_cancels_the_handler(serve: Serve, wait: Callable[[Any], Awaitable[Any]]) -> None:
    watched = Watched(wait)
    async with serve() as served, served.channel() as channel:
        served.handlers.stream(PATH, watched.handle)
        call = channel.stream_stream(PATH)(timeout=0.3)
        await call.write(b"a")
        with suppress(grpc.RpcError):
            while await call.read():
                pass
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await watched.has_ended()
        assert watched.left_s == pytest.approx(0.0, abs=0.05)  # the core counts in milliseconds


async def test_a_deadline_is_answered_also_where_the_client_does_not_look_at_it(serve: Serve) -> None:
    watched = Watched(waits)
    async with serve() as served, http2(served.target) as connection:
        served.handlers.stream(PATH, watched.handle)
        stream = connection.begin(PATH, ("grpc-timeout", "200m"))
        assert (await connection.answer(stream)).get("grpc-status") in ("4", None)
        assert await watched.has_ended()


async def test_a_deadline_that_has_passed_leaves_other_calls_alone(serve: Serve) -> None:
    watched = Watched(waits)
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, watched.handle)
        served.handlers.unary("/test.Service/Echo", echo)
        late = asyncio.ensure_future(refusal(channel.unary_unary(PATH)(b"", timeout=0.1)))
        for _ in range(20):
            assert await channel.unary_unary("/test.Service/Echo")(b"a") == b"a"
        assert (await late).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await watched.has_ended()


async def test_every_call_begins_its_handler_however_soon_it_is_reset(serve: Serve) -> None:
    begun = ended = 0

    async def count(_: Any, context: Any) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    async with serve(("grpc.http2.max_ping_strikes", 0)) as served, http2(served.target) as connection:
        served.handlers.stream(PATH, count)
        served.handlers.unary("/test.Service/Echo", echo)
        for number in range(50):
            connection.reset(connection.begin(PATH))
            connection.ping()
            async with asyncio.timeout(PATIENCE_S):
                while connection.pings_answered <= number:  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(0)
        stream = connection.begin("/test.Service/Echo")
        connection.send(stream, message(b"a"), end=True)
        assert (await connection.answer(stream))["grpc-status"] == "0"
        async with asyncio.timeout(PATIENCE_S):
            while ended < begun:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0)
    # The core may drop a call that was reset before the server had asked for it.
    assert 0 < begun <= 50


async def test_a_handler_that_ignores_its_cancellation_harms_nobody(serve: Serve) -> None:
    ended = asyncio.Event()

    async def ignore(_: Any, context: Any) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with suppress(Exception):
                await context.write(b"too late")
            with suppress(Exception):
                await context.abort(grpc.StatusCode.ABORTED, "too late", ())
        ended.set()
        return b"too late"

    begun = asyncio.Event()
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, ignore)
        served.handlers.unary("/test.Service/Echo", echo)
        call = channel.unary_unary(PATH)(b"")
        await begun.wait()
        call.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        assert await channel.unary_unary("/test.Service/Echo")(b"a") == b"a"


async def test_who_called_may_be_asked_after_the_end(serve: Serve) -> None:
    """In grpcio 1.81 and later that ends the process (docs/adr/0002)."""

    async def ask(context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            asked.append((context.peer(), context.auth_context()))

    asked: list[Any] = []
    async with serve() as served, http2(served.target) as connection:
        for _ in range(20):
            watched = Watched(ask)
            served.handlers.stream(PATH, watched.handle)
            stream = connection.begin(PATH)
            await watched.begun.wait()
            connection.reset(stream)
            await watched.has_ended()
    assert len(asked) == 20

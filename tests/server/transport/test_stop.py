"""How a transport begins and stops: its port, the calls that run, those that come meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.server.http2 import http2, message
from tests.server.transport.serving import EXCLUSIVE, GRACE_S, Handlers, Serve, Served, echo, refusal

PATH = "/test.Service/Call"
PATIENCE_S = 20.0


class Held:
    """A handler that is held until `open`."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.ended = ""

    async def handle(self, _: Any, __: Any) -> bytes:
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "returned"
        return b"done"


@asynccontextmanager
async def stopping(served: Served, grace_s: float) -> AsyncIterator[asyncio.Task[None]]:
    """While the transport stops, from when it takes no more connections."""
    task = asyncio.create_task(served.transport.stop(grace_s))
    async with asyncio.timeout(PATIENCE_S):
        while await is_open(served.port):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    yield task
    await task


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_call_that_runs_ends_within_the_grace(serve: Serve) -> None:
    held = Held()
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, held.handle)
        call = asyncio.ensure_future(channel.unary_unary(PATH)(b""))
        await held.begun.wait()
        async with stopping(served, PATIENCE_S) as stop:
            assert not stop.done()
            held.open.set()
            assert await call == b"done"
    assert held.ended == "returned"


async def test_a_call_that_outlives_the_grace_is_cancelled(serve: Serve) -> None:
    held = Held()
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, held.handle)
        call = asyncio.ensure_future(refusal(channel.unary_unary(PATH)(b"")))
        await held.begun.wait()
        await served.transport.stop(GRACE_S)
        assert (await call).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        async with asyncio.timeout(PATIENCE_S):
            while not held.ended:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0)
    assert held.ended == "cancelled"


async def test_a_client_that_never_reads_does_not_hold_up_the_stop(serve: Serve) -> None:
    begun = asyncio.Event()

    async def flood(_: Any, context: Any) -> None:
        while True:
            await context.write(bytes(65_536))
            begun.set()

    async with serve() as served, http2(served.target, window=0) as connection:
        served.handlers.stream(PATH, flood)
        served.handlers.unary("/test.Service/Echo", echo)
        connection.begin(PATH)
        stream = connection.begin("/test.Service/Echo")
        connection.send(stream, message(b"x" * 1000), end=True)
        async with asyncio.timeout(PATIENCE_S):
            await connection.headers(stream)
            await served.transport.stop(GRACE_S)


async def test_clients_are_sent_goaway_and_new_calls_are_refused(serve: Serve) -> None:
    held = Held()
    async with serve() as served, http2(served.target) as connection, served.channel() as channel:
        served.handlers.unary(PATH, held.handle)
        call = asyncio.ensure_future(channel.unary_unary(PATH)(b""))
        await held.begun.wait()
        async with stopping(served, 1.0):  # this connection lasts as long: it cannot answer any more
            async with asyncio.timeout(PATIENCE_S):
                while not connection.end:  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(0.01)
            assert connection.end.startswith("GOAWAY 0") or "CLOSED" in connection.end  # what follows a GOAWAY
            assert (await refusal(channel.unary_unary(PATH)(b""))).code() is grpc.StatusCode.UNAVAILABLE
            held.open.set()
            assert await call == b"done"


async def test_a_stop_may_be_repeated_at_once_and_later(serve: Serve) -> None:
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, echo)
        assert await channel.unary_unary(PATH)(b"a") == b"a"
        await asyncio.gather(served.transport.stop(GRACE_S), served.transport.stop(GRACE_S))
        await served.transport.stop(GRACE_S)


async def test_a_transport_that_was_not_started_can_be_stopped(serve: Serve) -> None:
    transport = serve.make(Handlers(), EXCLUSIVE)
    transport.listen("127.0.0.1:0", None)
    await transport.stop(GRACE_S)


async def test_a_port_that_is_taken_is_an_error(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        transport = serve.make(Handlers(), EXCLUSIVE)
        with pytest.raises(RuntimeError):
            transport.listen(f"127.0.0.1:{taken.getsockname()[1]}", None)
        await transport.stop(GRACE_S)


async def test_a_port_is_free_again_after_the_stop(serve: Serve) -> None:
    async with serve() as served:
        port = served.port
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_calls_wait_for_the_start(serve: Serve) -> None:
    handlers = Handlers()
    handlers.unary(PATH, echo)
    transport = serve.make(handlers, EXCLUSIVE)
    served = Served(transport, handlers, transport.listen("127.0.0.1:0", None))
    async with served.channel() as channel:
        call = asyncio.ensure_future(channel.unary_unary(PATH)(b"a", wait_for_ready=True))
        await asyncio.sleep(0.05)
        assert not call.done()
        await transport.start()
        assert await call == b"a"
        await transport.stop(GRACE_S)


async def test_starting_and_stopping_again_and_again_leaves_no_thread(serve: Serve) -> None:
    async def once() -> None:
        async with serve() as served, served.channel() as channel:
            served.handlers.unary(PATH, echo)
            assert await channel.unary_unary(PATH)(b"a") == b"a"

    await once()
    before = threading.active_count()
    for _ in range(10):
        await once()
    # A pool of asyncio's own may have grown.
    assert threading.active_count() <= before + 3


async def test_calls_that_come_while_it_stops_are_answered_or_refused(serve: Serve) -> None:
    """Never left without an end, whichever moment they come at."""
    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, echo)
        assert await channel.unary_unary(PATH)(b"a") == b"a"
        ends: list[str] = []

        async def call() -> None:
            try:
                ends.append((await channel.unary_unary(PATH)(b"a", timeout=PATIENCE_S)).decode())
            except grpc.RpcError as error:
                ends.append(str(getattr(error, "code", str)()))

        async with asyncio.timeout(PATIENCE_S):
            calls = [asyncio.create_task(call()) for _ in range(300)]
            await asyncio.sleep(0)
            await served.transport.stop(1.0)
            await asyncio.gather(*calls)
        assert len(ends) == 300
        assert set(ends) <= {"a", "StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}


async def test_a_connection_that_grows_old_is_left_and_its_call_goes_on(serve: Serve) -> None:
    held = Held()
    ages = (("grpc.max_connection_age_ms", 300), ("grpc.max_connection_age_grace_ms", 20_000))
    peers: set[str] = set()

    async def look(_: Any, context: Any) -> bytes:
        peers.add(context.peer())
        return b""

    async with serve(*ages) as served, served.channel() as channel:
        served.handlers.unary(PATH, held.handle)
        served.handlers.unary("/test.Service/Look", look)
        call = asyncio.ensure_future(channel.unary_unary(PATH)(b""))
        async with asyncio.timeout(PATIENCE_S):
            while len(peers) < 2:
                await channel.unary_unary("/test.Service/Look")(b"")
                await asyncio.sleep(0.01)
        assert not call.done()
        held.open.set()
        assert await call == b"done"

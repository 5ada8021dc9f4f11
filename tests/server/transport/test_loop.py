"""What the transport on the completion queue does beyond the contract."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest

from agent_service.server.transport.loop import server
from tests.server.http2 import http2, message
from tests.server.transport.serving import Server, echo, refusal

PATH = "/test.Service/Call"
PATIENCE_S = 20.0
CHUNK = bytes(20_000)

serve = Server("loop")


@pytest.mark.parametrize("how", ["returns", "aborts", "raises", "is unknown"])
async def test_a_call_leaves_its_place_at_once_however_it_ends(how: str) -> None:
    """Also where frames of a traceback keep its context."""
    kept: list[BaseException] = []

    async def end(_: Any, context: Any) -> bytes:
        try:
            if how == "aborts":
                await context.abort(grpc.StatusCode.ABORTED, "no", ())
            if how == "raises":
                raise ValueError("a bug")
        except Exception as error:
            kept.append(error)
            raise
        return b""

    bounds = (("grpc.max_concurrent_streams", 40), ("grpc.http2.max_ping_strikes", 0))
    expected = {"returns": "0", "aborts": "10", "raises": "2", "is unknown": "12"}[how]
    async with serve(*bounds) as served, http2(served.target) as connection:
        served.handlers.unary(PATH, end)
        for _ in range(30):
            streams = [connection.begin("/none" if how == "is unknown" else PATH) for _ in range(10)]
            for stream in streams:
                connection.send(stream, message(b""), end=True)
            assert {(await connection.answer(stream)).get("grpc-status") for stream in streams} == {expected}


async def test_a_request_is_not_lost_where_the_read_for_it_was_cancelled() -> None:
    async def impatient(_: Any, context: Any) -> Any:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await context.read()
        timed_out.set()
        return await context.read()

    timed_out = asyncio.Event()
    async with serve() as served, http2(served.target) as connection:
        served.handlers.unary(PATH, impatient)
        stream = connection.begin(PATH)
        await timed_out.wait()
        connection.send(stream, message(b"a"), end=True)
        assert (await connection.answer(stream))["grpc-status"] == "0"


async def test_the_text_of_a_bug_does_not_reach_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Any, __: Any) -> None:
        raise ValueError("a secret")

    async with serve() as served, http2(served.target) as connection:
        served.handlers.unary(PATH, broken)
        answer = await connection.answer(connection.begin(PATH))
    assert (answer["grpc-status"], answer["grpc-message"]) == ("2", "the handler failed")
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    ("details", "trailers"), [("no", (("x-number", 5),)), ("\ud800", ()), ("no", (("Not A Key", "v"),))]
)
async def test_a_status_that_cannot_be_sent_ends_the_call(details: str, trailers: Any) -> None:
    async def refuse(_: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, details, trailers)

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, refuse)
        served.handlers.unary("/test.Service/Echo", echo)
        error = await refusal(channel.unary_unary(PATH)(b"", timeout=PATIENCE_S))
        assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert await channel.unary_unary("/test.Service/Echo")(b"a") == b"a"


async def test_a_handler_that_goes_on_after_the_stop_cannot_harm_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core would abort the process for an operation on a queue that has been shut down."""
    monkeypatch.setattr(server, "CANCELED_S", 0.05)
    begun = asyncio.Event()
    refused: list[str] = []
    stopped = asyncio.Event()

    async def stubborn(_: Any, context: Any) -> bytes:
        begun.set()
        while not stopped.is_set():
            with suppress(asyncio.CancelledError):
                await stopped.wait()
        for step in (context.write(b"a"), context.read(), context.abort(grpc.StatusCode.ABORTED, "late", ())):
            try:
                await step
            except Exception as error:  # noqa: BLE001 - which one is what is tested
                refused.append(type(error).__name__)
        refused.append(context.peer())
        return b""

    async with serve() as served, http2(served.target) as connection:
        served.handlers.unary(PATH, stubborn)
        connection.begin(PATH)
        await begun.wait()
        stopping = asyncio.create_task(served.transport.stop(0.05))
        await asyncio.wait((stopping,), timeout=PATIENCE_S)
        stopped.set()
        await stopping
        async with asyncio.timeout(PATIENCE_S):
            while len(refused) < 4:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0)
    assert refused == ["InternalError", "InternalError", "AbortError", ""]


async def test_the_loop_has_other_turns_while_there_are_events_all_the_time() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with serve() as served, served.channel() as channel:
        served.handlers.unary(PATH, echo)
        counting = asyncio.create_task(count())
        await asyncio.gather(*(channel.unary_unary(PATH)(b"a") for _ in range(1000)))
        counting.cancel()
    assert turns > 10


async def test_messages_are_sent_without_waiting_while_the_client_has_room() -> None:
    sent: list[int] = []
    is_full = asyncio.Event()

    async def handle(_: Any, context: Any) -> None:
        sent.append(0)
        while context.is_ready:
            sent[-1] += 1
            context.send(CHUNK)
        is_full.set()
        # `write` waits for the message that is under way.
        await context.write(b"last")

    async with serve() as served, http2(served.target, window=0) as connection, served.channel() as channel:
        served.handlers.stream(PATH, handle)
        chunks = [chunk async for chunk in channel.unary_stream(PATH)(b"")]
        assert chunks == [*[CHUNK] * sent[0], b"last"]
        is_full.clear()
        stream = connection.begin(PATH)
        connection.send(stream, message(b""), end=True)
        async with asyncio.timeout(PATIENCE_S):
            await is_full.wait()
        assert sent[1] == 1
        connection.reset(stream)


@pytest.mark.parametrize("how", ["returns", "aborts", "raises"])
async def test_a_message_that_is_under_way_arrives_before_the_end_of_the_call(how: str) -> None:
    async def handle(_: Any, context: Any) -> None:
        context.send(CHUNK)
        if how == "aborts":
            await context.abort(grpc.StatusCode.ABORTED, "no", ())
        if how == "raises":
            raise ValueError("a bug")

    async with serve() as served, http2(served.target, window=100) as connection:
        served.handlers.stream(PATH, handle)
        stream = connection.begin(PATH)
        connection.send(stream, message(b""), end=True)
        answer = await connection.answer(stream)
        assert answer["grpc-status"] == {"returns": "0", "aborts": "10", "raises": "2"}[how]
        assert connection.received[stream] == len(CHUNK) + 5

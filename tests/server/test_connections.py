"""What one connection may do and how long it lives; calls and streams that outlive theirs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from grpc import aio

from agent_service.client import AsyncClient
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.harness import KEY, FakeModel, Parts, started
from tests.server.http2 import http2, message
from tests.server.test_admission import under_way
from tests.service.worlds import Gate, until

SERVICE = "/agent_service.v1.AgentService"
WITH_KEY = ("x-api-key", KEY)
# Each is a second here; the server takes a tenth more or less of the first.
SHORT_LIVES = {"CONNECTION_AGE": "1", "CONNECTION_AGE_GRACE": "1"}


async def test_a_call_and_a_stream_outlive_their_connection_and_see_every_event_once() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), environ=SHORT_LIVES)) as running:
        async with AsyncClient(running.target, api_key=KEY, patience_s=30) as client:

            async def follow() -> list[tuple[int, str]]:
                events = client.stream("go")
                return [(event.sequence, str(event.WhichOneof("event"))) async for event in events]

            following = asyncio.ensure_future(follow())
            running_one = asyncio.ensure_future(client.run("go"))
            await gate.holds(2)
            # Each of the two comes back at least twice: as many calls are cut off.
            await until(
                lambda: [line["code"] for line in running.log if line["event"] == "rpc"].count("CANCELLED") >= 4
            )
            assert not following.done()
            assert not running_one.done()
            gate.open()
            assert (await running_one).state == TASK_STATE_COMPLETED
            events = [sequence for sequence, arm in await following if arm != "text_delta"]
            assert events == list(range(1, len(events) + 1))
        assert gate.asked == 2


async def test_short_calls_never_notice_that_connections_grow_old() -> None:
    async with started(Parts(environ=SHORT_LIVES)) as running:
        end = asyncio.get_running_loop().time() + 5
        calls = 0
        while asyncio.get_running_loop().time() < end:
            await asyncio.gather(*(running.client.list_tools() for _ in range(4)))
            calls += 4
        assert calls > 20
        peers = {line["peer"] for line in running.log if line["event"] == "rpc"}
        assert len(peers) >= 3


async def test_a_connection_without_a_call_is_closed() -> None:
    async with started(Parts(environ={"CONNECTION_IDLE": "1"})) as running, http2(running.target) as connection:
        await connection.closed()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with started(Parts(environ={"HANDSHAKE_TIMEOUT": "1"})) as running:
        host, _, port = running.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(20):
            while await reader.read(1024):  # the server's own settings
                pass
        writer.close()


async def test_connections_beyond_their_number_are_closed_and_others_go_on() -> None:
    async with started(Parts(environ={"CONNECTIONS_MAX": "5"})) as running, AsyncExitStack() as stack:
        assert (await running.client.run("hi")).output == "hello"
        opened = [await asyncio.open_connection(*running.target.split(":")) for _ in range(20)]
        for _, writer in opened:
            stack.callback(writer.close)
        refused = 0

        async def watch(reader: asyncio.StreamReader) -> None:
            nonlocal refused
            try:
                while await reader.read(1024):
                    pass
            except ConnectionError:
                pass
            refused += 1

        watching = [asyncio.create_task(watch(reader)) for reader, _ in opened]
        await until(lambda: refused >= 15)
        assert (await running.client.run("hi")).output == "hello"
        for task in watching:
            task.cancel()


async def test_a_connection_takes_so_many_calls_at_once() -> None:
    gate = Gate()
    bounds = {"STREAMS_PER_CONNECTION_MAX": "3"}
    async with (
        started(Parts(model=FakeModel(gate.step), environ=bounds)) as running,
        AsyncClient(running.target, api_key=KEY) as client,
    ):
        await client.get_usage()  # on the same connection, which so knows the bound
        waiting = [asyncio.ensure_future(client.run("go")) for _ in range(5)]
        await gate.holds(3)
        assert under_way(running, "open_calls") == 3
        gate.open()
        assert len(await asyncio.gather(*waiting)) == 5


async def test_a_connection_that_takes_no_note_of_the_bounds_is_closed() -> None:
    async with started(Parts(environ={"HANDSHAKE_TIMEOUT": "1"})) as running:
        reader, writer = await asyncio.open_connection(*running.target.split(":"))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        async with asyncio.timeout(20):
            while await reader.read(1024):  # the server's own settings, which are never acknowledged
                pass
        writer.close()


@pytest.mark.parametrize(
    ("method", "key", "body", "code"),
    [
        ("RunTask", KEY, b"\xff", "3"),
        ("GetTask", KEY, b"\x0a\x02t1", "5"),
        ("Nothing", KEY, b"", "12"),
        ("RunTask", "not a key", b"", "8"),
    ],
)
async def test_refused_calls_leave_their_places_at_once(method: str, key: str, body: bytes, code: str) -> None:
    """And not when Python collects its garbage: until then the connection would take no more of them."""
    async with started(Parts(auth_failures_max=1)) as running, http2(running.target) as connection:
        first = connection.begin(f"{SERVICE}/RunTask", ("x-api-key", "not a key"))
        assert (await connection.answer(first))["grpc-status"] == "16"
        for _ in range(50):
            streams = [connection.begin(f"{SERVICE}/{method}", ("x-api-key", key)) for _ in range(20)]
            for stream in streams:
                connection.send(stream, message(body), end=True)
            assert {(await connection.answer(stream)).get("grpc-status") for stream in streams} == {code}


async def test_resetting_calls_at_once_does_not_make_room_for_more_of_them_at_once() -> None:
    bounds = {"STREAMS_PER_CONNECTION_MAX": "10"}
    async with started(Parts(environ=bounds)) as running, http2(running.target) as connection:
        for number in range(100):
            connection.reset(connection.begin(f"{SERVICE}/RunTask", WITH_KEY))
            connection.ping()
            await until(lambda number=number: connection.pings_answered > number)
        await until(lambda: under_way(running, "open_calls") == 0)
        begun = [line for line in running.log if line["event"] == "rpc"]
        assert 0 < len(begun) < 50

        answer: dict[str, str] = {}
        while not answer:  # the server refuses what is too much without a word
            stream = connection.begin("/grpc.health.v1.Health/Check")
            connection.send(stream, message(b""), end=True)
            answer = await connection.answer(stream)
        assert answer["grpc-status"] == "0"


async def test_whoever_pings_often_is_answered_every_time() -> None:
    async with started() as running, http2(running.target) as connection:
        for _ in range(50):
            connection.ping()
        stream = connection.begin("/grpc.health.v1.Health/Check")
        connection.send(stream, message(b""), end=True)
        assert (await connection.answer(stream))["grpc-status"] == "0"
        assert connection.pings_answered == 50


async def test_a_client_that_answers_no_ping_is_cut_off() -> None:
    bounds = {"KEEPALIVE_TIME": "1", "KEEPALIVE_TIMEOUT": "1"}
    async with started(Parts(environ=bounds)) as running, http2(running.target) as connection:
        connection.begin(f"{SERVICE}/RunTask", WITH_KEY)  # and never a request
        await until(lambda: under_way(running, "open_calls") == 1)
        connection.fall_silent()
        await until(lambda: under_way(running, "open_calls") == 0)
    assert [line["code"] for line in running.log if line["event"] == "rpc"] == ["CANCELLED"]


@pytest.mark.parametrize("never", ["CONNECTION_IDLE", "CONNECTION_AGE"])
async def test_zero_is_never(never: str) -> None:
    async with started(Parts(environ={never: "0"})) as running:
        async with aio.insecure_channel(running.target, options=(("grpc.enable_http_proxy", 0),)) as channel:
            await channel.channel_ready()
        assert (await running.client.run("hi")).output == "hello"

"""Calls that are begun and not ended, or that no client would make."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

from agent_service.v1 import agent_service_pb2 as pb
from tests.faults.attacks.victim import SERVICE, Call, Victim, check
from tests.server.http2 import message

HEALTH = "/grpc.health.v1.Health"
STREAMS = 250


async def sends_headers_and_no_request(victim: Victim) -> None:
    """Each is ended at the end of its time for a request."""
    methods = (f"{SERVICE}/RunTask", f"{SERVICE}/GetTask", f"{SERVICE}/WatchTask", f"{HEALTH}/Check", f"{HEALTH}/Watch")
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(victim.connection()) for _ in range(victim.times(4))]
        streams = [
            (connection, connection.begin(methods[number % len(methods)], ("x-api-key", victim.key)))
            for connection in connections
            for number in range(STREAMS)
        ]
        answers = [await connection.answer(stream) for connection, stream in streams]
    victim.told += answers
    # 8: where an address has all of its part of a pool.
    check(answers, "4", "8", "none")
    assert any(answer.get("grpc-status") == "4" for answer in answers)


async def watches_and_never_reads(victim: Victim) -> None:
    """Windows of nothing: whatever the server has to say to such a watcher stays with it."""
    watch = pb.WatchTaskRequest(task_id=victim.task_id).SerializeToString()
    async with AsyncExitStack() as stack:
        for _ in range(victim.times(5)):
            connection = await stack.enter_async_context(victim.connection(window=0))
            for _ in range(40):
                Call(f"{SERVICE}/WatchTask", watch).begin(connection, victim.key)
                Call(f"{HEALTH}/Watch").begin(connection, victim.key)
                Call(f"{SERVICE}/ListTools").begin(connection, victim.key)
        await asyncio.sleep(victim.lasts_s)


async def cancels_what_it_has_begun(victim: Victim) -> None:
    """A storm of them: before the task is accepted, while it runs, when it has ended."""
    chance = random.Random(1)
    async with victim.connection() as connection:
        for _ in range(victim.times(20)):
            streams: list[int] = []
            for _ in range(50):
                request = pb.RunTaskRequest(task="What is 17.5% of 2340?")
                streamed = pb.StreamTaskRequest(run=request).SerializeToString()
                method, body = chance.choice((("RunTask", request.SerializeToString()), ("StreamTask", streamed)))
                deadline = ("grpc-timeout", f"{chance.randrange(1, 100)}m")
                call = Call(f"{SERVICE}/{method}", body, (deadline,) if chance.random() < 0.3 else ())
                streams.append(call.begin(connection, victim.key))
            chance.shuffle(streams)
            for stream in streams:
                await asyncio.sleep(chance.choice((0, 0, 0.005)))
                connection.reset(stream)
        await victim.answers(connection, [Call(f"{HEALTH}/Check")])


async def calls_methods_that_are_not_there(victim: Victim) -> None:
    """Also with bytes that are no text, and as something that is no gRPC."""
    names = ("Nothing", "runTask", "RunTask/", "../RunTask", "%00", "a" * 3000)
    calls = [
        Call(f"{service}/{name}{number}", b"\x0a\x02hi")
        for number in range(victim.times(100))
        for service in (SERVICE, HEALTH, "/a.b")
        for name in names
    ]
    async with victim.connection() as connection:
        check(await victim.answers(connection, calls), "12")
        strange = [Call(path, b"", key="") for path in (b"/\xff\xfe/x", b"/", b"*", b"//")] * victim.times(20)
        check(await victim.answers(connection, strange), "12", "16", "2", "8")


async def calls_in_other_content_types(victim: Victim) -> None:
    """JSON, forms, gRPC-Web: nothing but bytes of a message is taken for one."""
    types = ("application/json", "text/plain", "application/grpc-web+proto", "application/grpc+json", "", "x" * 2000)
    body = b'{"task": "hi"}'
    calls = [
        Call(f"{SERVICE}/RunTask", body, content_type=kind, is_framed=is_framed)
        for kind in types
        for is_framed in (True, False)
    ]
    for call in calls * victim.times(20):
        # One connection each: what is no frame may cost the whole of it.
        async with victim.connection() as connection:
            check(await victim.answers(connection, [call]), "13", "3", "8", "none")


async def sends_metadata_that_is_too_large(victim: Victim) -> None:
    """More than fits, in one entry and in many."""
    many = tuple((f"x-{number}", "b" * 50) for number in range(400))
    calls = [
        Call(f"{SERVICE}/ListTools", metadata=metadata)
        for metadata in ((("x-pad", "a" * 17_000),), (("x-pad", "a" * 60_000),), many, (("x-pad-bin", "A" * 40_000),))
    ]
    async with victim.connection() as connection:
        answers = await victim.answers(connection, calls * victim.times(8))
    check(answers, "8")


async def sends_metadata_that_is_wrong(victim: Victim) -> None:
    """Times that are no times, encodings that nobody knows, ids that are too long, bytes that are no text."""
    wrong = (
        ("grpc-timeout", "abc"),
        ("grpc-timeout", "99999999999H"),
        ("grpc-timeout", "-1S"),
        ("grpc-encoding", "nonsense"),
        ("x-request-id", "r" * 5000),
        ("x-request-id", "\x7f\x00"),
        ("traceparent", "00-" + "0" * 5000),
        ("x-bin", "!"),
        ("connection", "close"),
        (":path", "/twice"),
        ("x-ünï", "ü"),
        ("te", "nothing"),
    )
    for number in range(victim.times(6) * len(wrong)):
        async with victim.connection() as connection:
            stream = connection.begin(f"{SERVICE}/ListTools", ("x-api-key", victim.key), wrong[number % len(wrong)])
            connection.send(stream, message(b""), end=True)
            answer = await connection.answer(stream)
            victim.told.append(answer)
            check([answer], "0", "1", "12", "13", "2", "3", "4", "8", "none")

"""Messages that are wrong, too large or too deep."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator

from agent_service.server.handlers import DESCRIPTOR
from agent_service.v1 import agent_service_pb2 as pb
from tests.faults import fuzz
from tests.faults.attacks.victim import SERVICE, Call, Victim, check

MIB = 1024 * 1024
METHODS = [f"{SERVICE}/{method.name}" for method in DESCRIPTOR.methods]
# Calls that may stay open are not to.
SOON = (("grpc-timeout", "20S"),)
# What a server says that understood, or knows what it did not understand. UNKNOWN, INTERNAL and DATA_LOSS are not here.
CONSIDERED = {"0", "1", "3", "4", "5", "6", "7", "8", "9"}


async def sends_ten_thousand_malformed_messages(victim: Victim) -> None:
    """No message, whatever is asked."""
    chance = random.Random(2)
    calls = [
        # A field of the number 0 is none, so no random bytes are a message by accident.
        Call(METHODS[number % len(METHODS)], b"\0" + chance.randbytes(chance.randrange(1, 200)))
        for number in range(victim.times(10_000))
    ]
    async with victim.connection() as connection:
        check(await victim.answers(connection, calls), "3")


async def sends_what_is_nearly_right(victim: Victim) -> None:
    """Fuzzed requests of every method."""
    calls = [
        Call(f"{SERVICE}/{name}", body, SOON) for name, body in fuzz.requests(3, victim.times(100), victim.task_id)
    ]
    async with victim.connection() as connection:
        for call, answer in zip(calls, await victim.answers(connection, calls), strict=True):
            assert answer.get("grpc-status") in CONSIDERED, (call.path, call.body[:500], answer)


async def sends_bytes_that_are_no_text(victim: Victim) -> None:
    """In the first field of every method, which is a string or has one."""
    wrong = (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf")
    texts = [b"\x0a" + bytes((len(text) + 1,)) + b"x" + text for text in wrong]
    named = [method for method in METHODS if not method.endswith(("ListAgents", "ListTools", "ListTasks"))]
    calls = [Call(method, text, SOON) for method in named for text in texts]
    async with victim.connection() as connection:
        answers = await victim.answers(connection, calls * victim.times(20))
    check(answers, "3")


async def sends_messages_that_are_too_large(victim: Victim) -> None:
    """Whole ones, and some that tell of more than will ever come."""
    whole = pb.RunTaskRequest(task="a" * (5 * MIB)).SerializeToString()
    for _ in range(victim.times(20)):
        async with victim.connection() as connection:
            call = Call(f"{SERVICE}/RunTask", b"\0\xff\xff\xff\xff" + b"a" * 100, is_framed=False)
            # 3: where the end comes before the length was looked at.
            check(await victim.answers(connection, [call]), "3", "8")
            stream = connection.begin(f"{SERVICE}/RunTask", ("x-api-key", victim.key))
            await connection.send_whole(stream, b"\0" + len(whole).to_bytes(4, "big") + whole)
            check([await connection.answer(stream)], "8", "none")


async def sends_messages_that_grow(victim: Victim) -> None:
    """Bombs: small as they come, large unpacked, which nobody does."""
    packed = [gzip.compress(bytes(size * MIB), 1) for size in (5, 64)]
    bombs = [b"\1" + len(body).to_bytes(4, "big") + body for body in packed]
    for number in range(victim.times(40)):
        async with victim.connection() as connection:
            stream = connection.begin(f"{SERVICE}/RunTask", ("x-api-key", victim.key), ("grpc-encoding", "gzip"))
            await connection.send_whole(stream, bombs[number % len(bombs)])
            answer = await connection.answer(stream)
            victim.told.append(answer)
            check([answer], "12")


async def nests_without_end(victim: Victim) -> None:
    """Structs and JSON, as arguments of a tool and as schemas."""
    depths = (32, 33, 34, 50, 99, 100, 101, 1000, 20_000)
    bodies = [body for depth in depths for body in _nested(depth)]
    calls = [Call(f"{SERVICE}/{method}", body, SOON) for method, body in bodies] * victim.times(3)
    async with victim.connection() as connection:
        answers = [(await victim.answers(connection, [call]))[0] for call in calls]
    check(answers, "0", "3")
    assert any(answer.get("grpc-status") == "3" for answer in answers)


def _nested(depth: int) -> Iterator[tuple[str, bytes]]:
    struct = b""
    for _ in range(depth):
        # A Struct with one entry of the name `a`, whose value is the Struct before.
        value = _field(5, struct)
        struct = _field(1, _field(1, b"a") + _field(2, value))
    yield "ToolInvoke", _field(1, b"echo") + _field(2, struct)
    yield "RunTask", _field(2, b"hi") + _field(9, struct)
    yield "ToolInvoke", _field(1, b"echo") + _field(3, b'{"a":' * depth + b"1" + b"}" * depth)
    yield "ToolInvoke", _field(1, b"echo") + _field(3, b'{"text":' + b"[" * depth + b"]" * depth + b"}")
    document = '{"document": "' + "[" * depth + "]" * depth + '", "query": "a"}'
    yield "ToolInvoke", pb.ToolInvokeRequest(tool_name="json_query", inputs_json=document).SerializeToString()


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes, text or a message."""
    length, rest = b"", len(data)
    while rest >= 128:
        length += bytes((rest % 128 + 128,))
        rest //= 128
    return bytes((number << 3 | 2,)) + length + bytes((rest,)) + data

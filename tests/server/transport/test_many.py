"""Many calls, of every kind of end, leave nothing behind.

`TRANSPORT_CALLS` sets how many; `make test-transport` makes 100,000.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.server.transport.serving import Serve, echo

CALLS = int(os.environ.get("TRANSPORT_CALLS", "2000"))
AT_ONCE = 50
GROWTH_MIB_MAX = 4.0
OBJECTS_MAX = 500


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


async def end(call: Awaitable[Any]) -> str:
    try:
        await call
    except grpc.RpcError as error:
        return str(getattr(error, "code", str)())
    except asyncio.CancelledError:
        return "cancelled"
    return "ok"


@pytest.mark.timeout(60 + CALLS / 100)
async def test_many_calls_leave_neither_objects_nor_memory(serve: Serve) -> None:
    async def stream(_: Any, context: Any) -> None:
        for _ in range(3):
            await context.write(b"x")

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "no", (("x-bin", b"\x00"),))

    async def hang(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    async with serve() as served, served.channel() as channel:
        served.handlers.unary("/a/Echo", echo)
        served.handlers.stream("/a/Stream", stream)
        served.handlers.unary("/a/Refuse", refuse)
        served.handlers.unary("/a/Hang", hang)

        async def one(number: int) -> str:
            match number % 10:
                case 0:
                    return await end(channel.unary_unary("/a/Refuse")(b"x"))
                case 1:
                    responses = [response async for response in channel.unary_stream("/a/Stream")(b"x")]
                    return f"{len(responses)} responses"
                case 2:
                    call = channel.unary_unary("/a/Hang")(b"x")
                    asyncio.get_running_loop().call_later(0.002, call.cancel)
                    return await end(call)
                case 3:
                    return await end(channel.unary_unary("/a/Hang")(b"x", timeout=0.002))
                case 4:
                    return await end(channel.unary_unary("/a/None")(b"x"))
                case _:
                    return await end(channel.unary_unary("/a/Echo")(b"x" * 100))

        async def make(calls: int) -> dict[str, int]:
            ends: dict[str, int] = {}
            for first in range(0, calls, AT_ONCE):
                for name in await asyncio.gather(*map(one, range(first, first + AT_ONCE))):
                    ends[name] = ends.get(name, 0) + 1
            return ends

        await make(max(CALLS // 10, 1000))  # warm
        gc.collect()
        objects, memory = len(gc.get_objects()), resident_mib()
        ends = await make(CALLS)
        gc.collect()
        print(f"{serve.name}: {CALLS} calls, {resident_mib() - memory:+.2f} MiB")  # noqa: T201 - for `-s`
        assert len(gc.get_objects()) - objects < OBJECTS_MAX
        assert resident_mib() - memory < GROWTH_MIB_MAX
    assert ends == {
        "StatusCode.ABORTED": CALLS // 10,
        "3 responses": CALLS // 10,
        "cancelled": CALLS // 10,
        "StatusCode.DEADLINE_EXCEEDED": CALLS // 10,
        "StatusCode.UNIMPLEMENTED": CALLS // 10,
        "ok": CALLS // 2,
    }

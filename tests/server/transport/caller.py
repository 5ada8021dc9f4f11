"""Makes many calls of every kind of end: `python -m tests.server.transport.caller TARGET CALLS`, a process of its own.

Prints how often each end was seen, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import grpc
from grpc import aio

from tests.server.transport.serving import LOCAL

AT_ONCE = 50


async def end(call: Awaitable[Any]) -> str:
    try:
        await call
    except grpc.RpcError as error:
        return str(getattr(error, "code", str)())
    except asyncio.CancelledError:
        return "cancelled"
    return "ok"


async def one(channel: Any, number: int) -> str:
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


async def main(target: str, calls: int) -> None:
    ends: Counter[str] = Counter()
    async with aio.insecure_channel(target, options=LOCAL) as channel:
        for first in range(0, calls, AT_ONCE):
            ends.update(await asyncio.gather(*(one(channel, number) for number in range(first, first + AT_ONCE))))
    print(json.dumps(ends))  # noqa: T201 - for the test that started it


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

"""A bare server of grpc.aio on uvloop: an echo, and a stream of messages. Prints its port.

python bench/contenders/echo_server.py [PORT]
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import uvloop
from grpc import aio


async def echo(request: bytes, _: object) -> bytes:
    return request


async def stream(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> None:
    """So many messages as the request says, each of the size of a text delta."""
    for _ in range(int(request)):
        await context.write(b"x" * 120)


async def hold(_: bytes, context: aio.ServicerContext[bytes, bytes]) -> None:
    """One message, and then nothing, for as long as the caller stays."""
    await context.write(b"x" * 120)
    await asyncio.Event().wait()


async def main(port: int) -> None:
    server = aio.server(options=(("grpc.so_reuseport", 0),))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Hold": grpc.unary_stream_rpc_method_handler(hold),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(bound, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))

"""What a client can do to a server of the grpcio that is installed, and what a call costs there.

Tried are a normal server of `grpc.aio`, and the project's transport on the completion queue (docs/adr/0035).

    make try-grpcio ARGS="1.80.1 1.85.3"

Needs nothing but grpcio: each version is tried in an environment of its own. The server asks for the peer in a
`finally`, as a handler that logs does. docs/adr/0002 says what was found.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

LOCAL = (("grpc.enable_http_proxy", 0),)
CANCELS = 200
CALLS = 3000
MESSAGE = bytes(256 * 1024)  # a few of them fill the window of a client that does not read


async def serve_loop() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from agent_service.server.transport.loop.server import LoopTransport  # it needs grpcio alone

    async def echo(_: Any, context: Any) -> Any:
        return await context.read()

    async def flood(_: Any, context: Any) -> None:
        try:
            while True:
                await context.write(MESSAGE)
        finally:
            await asyncio.sleep(0.01)
            context.peer()

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.stream_unary_rpc_method_handler(echo),
        "Flood": grpc.stream_stream_rpc_method_handler(flood),
    }
    transport = LoopTransport(grpc.method_handlers_generic_handler("try.Grpcio", handlers), ())
    port = transport.listen("127.0.0.1:0", None)
    await transport.start()
    print(port, flush=True)
    await asyncio.Event().wait()


async def serve_aio() -> None:
    async def echo(request: bytes, _: Any) -> bytes:
        return request

    async def flood(_: bytes, context: Any) -> Any:
        try:
            while True:
                yield MESSAGE
        finally:
            await asyncio.sleep(0.01)
            context.peer()

    server = aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Flood": grpc.unary_stream_rpc_method_handler(flood),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("try.Grpcio", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def cancel_blocked_streams(channel: Any) -> None:
    """Streams that flow control has stopped, cancelled."""
    flood = channel.unary_stream("/try.Grpcio/Flood")
    for _ in range(CANCELS // 10):
        calls = [flood(b"") for _ in range(10)]
        await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        for call in calls:
            call.cancel()
    await asyncio.sleep(0.2)


async def call_a_path_that_is_no_text(channel: Any) -> None:
    """A method whose name is no UTF-8."""
    await asyncio.gather(channel.unary_unary(b"/\xff/\xfe")(b"", timeout=5), return_exceptions=True)
    await asyncio.sleep(0.2)


async def attacked(transport: str, attack: Callable[[Any], Awaitable[None]]) -> str:
    """What became of a fresh server."""
    with server(transport) as process:
        assert process.stdout is not None
        target = f"127.0.0.1:{int(process.stdout.readline())}"
        async with aio.insecure_channel(target, options=LOCAL) as channel:
            await attack(channel)
        if process.poll() is not None:
            return f"dies with {process.returncode}"
        async with aio.insecure_channel(target, options=LOCAL) as channel:
            echo: Any = channel.unary_unary("/try.Grpcio/Echo")
            try:
                await echo(b"", timeout=5)
            except grpc.RpcError:
                return "answers nobody any more"
        return "survives"


async def cost_us(transport: str) -> float:
    """CPU of the server for a call, 32 at a time: the least of five rounds."""
    with server(transport) as process:
        assert process.stdout is not None
        target = f"127.0.0.1:{int(process.stdout.readline())}"
        async with aio.insecure_channel(target, options=LOCAL) as channel:
            echo: Any = channel.unary_unary("/try.Grpcio/Echo")
            rounds = []
            for _ in range(6):
                began = cpu_s(process)
                for _ in range(CALLS // 32):
                    await asyncio.gather(*(echo(b"x") for _ in range(32)))
                rounds.append((cpu_s(process) - began) / (CALLS // 32 * 32) * 1e6)
            return min(rounds[1:])


class server:
    """The server as a process of its own."""

    def __init__(self, transport: str) -> None:
        self._transport = transport

    def __enter__(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "serve", self._transport]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def main(*, with_cost: bool) -> None:
    print(f"grpcio {grpc.__version__}")
    for transport in SERVERS:
        print(f" {transport}")
        print(f"  peer asked after {CANCELS} canceled streams: {await attacked(transport, cancel_blocked_streams)}")
        print(f"  path that is no UTF-8: {await attacked(transport, call_a_path_that_is_no_text)}")
        if with_cost:
            print(f"  CPU of an echo: {await cost_us(transport):.0f} us")


SERVERS = {"aio": serve_aio, "loop": serve_loop}


if __name__ == "__main__":
    asyncio.run(SERVERS[sys.argv[2]]() if "serve" in sys.argv else main(with_cost="--no-cost" not in sys.argv))

"""What gRPC does for the client by itself: which server is asked, and what is asked again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from agent_service.client import AsyncClient, CallError
from agent_service.client.channel import SERVICE, channel_options
from tests.harness import KEY, FakeModel, Parts, Running, says, started

REPEATABLE = Path(__file__).parents[2] / "clients" / "repeatable.txt"


class Unsteady(grpc.GenericRpcHandler):
    """A service that is away for the first so many calls."""

    def __init__(self, away: int) -> None:
        self.calls: Counter[str] = Counter()
        self._away = away

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """What answers a method: nothing with any of them, where the service is there."""
        method = str(handler_call_details.method).rpartition("/")[2]

        async def answer(_: bytes, context: Any) -> bytes:
            self.calls[method] += 1
            if self.calls.total() <= self._away:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)

    @asynccontextmanager
    async def server(self) -> AsyncIterator[str]:
        """Its address, while it serves."""
        server = aio.server()
        server.add_generic_rpc_handlers((self,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        """One that has no patience of its own."""
        async with self.server() as target, AsyncClient(target, patience_s=0) as client:
            yield client


async def test_what_is_safe_to_repeat_is_repeated() -> None:
    service = Unsteady(away=2)
    async with service.client() as client:
        await client.get_task("it")
    assert service.calls == {"GetTask": 3}


async def test_those_calls_are_repeated_that_the_contract_names() -> None:
    repeated = [method.name for method in SERVICE.methods if await attempts(method.name) == 2]

    assert sorted(repeated) == REPEATABLE.read_text("utf-8").split()


async def attempts(method: str) -> int:
    """How often a call is made that a server refuses once because it is away."""
    service = Unsteady(away=1)
    async with service.server() as target, aio.insecure_channel(target, channel_options(target)) as channel:
        call: Any = channel.unary_stream(f"/{SERVICE.full_name}/{method}")
        with suppress(aio.AioRpcError):
            await call(b"").read()
    return service.calls[method]


async def test_what_is_not_is_made_once() -> None:
    service = Unsteady(away=1)
    async with service.client() as client:
        with pytest.raises(CallError, match="not now"):
            await client.delete_task("it")
    assert service.calls == {"DeleteTask": 1}


async def test_repetition_ends_where_most_calls_fail() -> None:
    service = Unsteady(away=1000)
    async with service.client() as client:
        for _ in range(20):
            with pytest.raises(CallError, match="not now"):
                await client.get_task("it")
    assert service.calls["GetTask"] < 35


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Running, Running, AsyncClient]]:
    """Servers, and a client of both."""
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(started(Parts(model=FakeModel(says(name))))) for name in ("one", "other")
        ]
        client = AsyncClient(f"ipv4:{one.target},{other.target}", api_key=KEY, patience_s=10)
        yield one, other, await stack.enter_async_context(client)


async def answers(client: AsyncClient, *wanted: str) -> None:
    """Wait until four tasks in a row are answered by these."""
    async with asyncio.timeout(20):
        while {(await client.run("go")).output for _ in range(4)} != {*wanted}:
            pass


async def test_servers_take_turns() -> None:
    async with two() as (_, _, client):
        await answers(client, "one", "other")


async def test_one_that_is_not_ready_is_passed_over() -> None:
    async with two() as (one, _, client):
        await answers(client, "one", "other")
        one.server.readiness.drain()
        await answers(client, "other")
        assert {(await client.run("go")).output for _ in range(20)} == {"other"}


async def test_a_deadline_bounds_all_tries_together() -> None:
    async with started() as running:
        client = AsyncClient(running.target, api_key=KEY, patience_s=60)
        await client.list_agents()
    async with client:
        with pytest.raises(CallError) as late:
            await client.run("go", deadline_s=0.5)
    assert late.value.code == "DEADLINE_EXCEEDED"


async def test_no_key_is_shown() -> None:
    async with AsyncClient("127.0.0.1:1", api_key=KEY) as client:
        assert KEY not in repr(client)

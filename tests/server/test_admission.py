"""How many calls may be under way at once, whose, and that each leaves its place however it ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agent_service.client import CallError
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.harness import KEY, OTHER_KEY, FakeModel, Parts, Running, says, started
from tests.server.http2 import http2, message
from tests.server.test_auth_failures import details
from tests.service.worlds import Gate, request, stub, until

SERVICE = "/agent_service.v1.AgentService"
WITH_KEY = ("x-api-key", KEY)
HEALTH = "/grpc.health.v1.Health"


def under_way(running: Running, pool: str) -> float:
    calls = running.metrics.registry.get_sample_value("agent_service_calls_under_way", {"pool": pool})
    assert calls is not None
    return calls


def refused_by(running: Running, rule: str) -> float:
    name = "agent_service_calls_refused_total"
    return running.metrics.registry.get_sample_value(name, {"rule": rule}) or 0.0


async def test_a_full_server_refuses_what_is_too_many_and_takes_it_when_there_is_room() -> None:
    gate = Gate()
    bounds = {"OPEN_CALLS_MAX": "3"}
    async with started(Parts(model=FakeModel(gate.step), environ=bounds)) as running:
        waiting = [asyncio.ensure_future(running.client.run("go")) for _ in range(3)]
        await gate.holds(3)
        with pytest.raises(CallError) as refused:
            await running.other_tenant.run("go")
        assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "OVERLOADED")
        assert refused.value.retry_after_s == 1
        assert under_way(running, "open_calls") == 3
        assert refused_by(running, "open_calls") == 1
        gate.open()
        assert [task.output for task in await asyncio.gather(*waiting)] == 3 * ["hello"]
        assert (await running.other_tenant.run("go")).output == "hello"
        await until(lambda: under_way(running, "open_calls") == 0)


async def test_one_key_has_its_part_and_leaves_the_rest_to_others() -> None:
    gate = Gate()
    bounds = {"OPEN_CALLS_MAX": "4", "OPEN_CALLS_PER_KEY_MAX": "2"}
    async with started(Parts(model=FakeModel(gate.step), environ=bounds)) as running:
        waiting = [asyncio.ensure_future(running.client.run("go")) for _ in range(2)]
        await gate.holds(2)
        async with stub(running) as (methods, metadata):
            with pytest.raises(aio.AioRpcError) as refused:
                await methods.RunTask(request(), metadata=metadata)
        told = CallError.of(refused.value)
        assert (told.code, told.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        assert details(refused.value, QuotaFailure).violations[0].description == "rule open_calls_per_key"
        assert details(refused.value, RetryInfo).retry_delay.seconds == 1
        waiting.append(asyncio.ensure_future(running.other_tenant.run("go")))
        await gate.holds(3)
        gate.open()
        await asyncio.gather(*waiting)
        assert refused_by(running, "open_calls_per_key") == 1


async def test_one_address_has_its_part_whatever_its_keys() -> None:
    gate = Gate()
    bounds = {"OPEN_CALLS_PER_PEER_MAX": "2"}
    async with started(Parts(model=FakeModel(gate.step), environ=bounds)) as running:
        waiting = [asyncio.ensure_future(client.run("go")) for client in (running.client, running.other_tenant)]
        await gate.holds(2)
        with pytest.raises(CallError, match="TOO_MANY_CALLS"):
            await running.client.run("go")
        gate.open()
        await asyncio.gather(*waiting)


async def test_calls_that_wait_for_tasks_take_no_room_from_those_that_cancel_them() -> None:
    gate = Gate()
    bounds = {"OPEN_CALLS_MAX": "1", "CALLS_MAX": "1"}
    async with started(Parts(model=FakeModel(gate.step), environ=bounds)) as running:
        task = await running.client.submit("go")
        async with aclosing(running.client.watch(task.id)) as events:
            await anext(events)
            await running.client.cancel(task.id)
            assert (await running.client.get_task(task.id)).id == task.id


async def test_health_is_answered_while_all_of_the_service_is_taken() -> None:
    gate = Gate()
    bounds = {"OPEN_CALLS_MAX": "1", "OPEN_CALLS_PER_PEER_MAX": "1", "CALLS_MAX": "1"}
    async with started(Parts(model=FakeModel(gate.step), environ=bounds)) as running:
        waiting = asyncio.ensure_future(running.client.run("go"))
        await gate.holds(1)
        assert await running.client.health() == "SERVING"
        gate.open()
        await waiting


async def test_watchers_of_health_are_bounded_and_take_no_room_from_checks() -> None:
    bounds = {"PUBLIC_CALLS_PER_PEER_MAX": "2"}
    async with started(Parts(environ=bounds)) as running, running.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(service="readiness")) for _ in range(2)]
        for watch in watches:
            await watch.read()
        with pytest.raises(grpc.RpcError) as refused:
            await health.Watch(health_pb2.HealthCheckRequest()).read()
        assert CallError.of(refused.value).reason == "TOO_MANY_CALLS"
        assert refused_by(running, "health_watches_per_peer") == 1
        assert await running.client.health() == "SERVING"
        for watch in watches:
            watch.cancel()
        await until(lambda: under_way(running, "health_watches") == 0)


async def test_headers_alone_without_a_key_take_no_place() -> None:
    bounds = {"OPEN_CALLS_MAX": "1", "CALLS_MAX": "1"}
    async with started(Parts(environ=bounds)) as running, http2(running.target) as connection:
        answers = [connection.begin(f"{SERVICE}/RunTask") for _ in range(20)]
        codes = {(await connection.answer(stream))["grpc-status"] for stream in answers}
        assert codes == {"16"}
        assert (await running.client.run("hi")).output == "hello"


async def test_headers_alone_with_a_key_take_a_place_until_they_are_reset() -> None:
    async with started(Parts(environ={"OPEN_CALLS_PER_KEY_MAX": "5"})) as running:
        async with http2(running.target) as connection:
            streams = [connection.begin(f"{SERVICE}/RunTask", WITH_KEY) for _ in range(5)]
            await until(lambda: under_way(running, "open_calls") == 5)
            with pytest.raises(CallError, match="TOO_MANY_CALLS"):
                await running.client.run("hi")
            for stream in streams:
                connection.reset(stream)
            await until(lambda: under_way(running, "open_calls") == 0)
        assert (await running.client.run("hi")).output == "hello"
        codes = [line["code"] for line in running.log if line["event"] == "rpc"]
        assert sorted(codes) == [*5 * ["CANCELLED"], "OK", "RESOURCE_EXHAUSTED"]


async def test_a_connection_that_breaks_leaves_all_of_its_places() -> None:
    async with started() as running:
        async with http2(running.target) as connection:
            for _ in range(30):
                connection.begin(f"{SERVICE}/RunTask", WITH_KEY)
            await until(lambda: under_way(running, "open_calls") == 30)
        await until(lambda: under_way(running, "open_calls") == 0)


async def test_a_request_that_does_not_come_is_the_end_of_its_call() -> None:
    async with started(Parts(environ={"CALL_TIMEOUT": "1"})) as running:
        async with http2(running.target) as connection:
            streams = [
                connection.begin(f"{SERVICE}/RunTask", WITH_KEY),
                connection.begin(f"{SERVICE}/GetTask", WITH_KEY),
                connection.begin(f"{SERVICE}/WatchTask", WITH_KEY),
                connection.begin(f"{HEALTH}/Check"),
                connection.begin(f"{HEALTH}/Watch"),
                connection.begin("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
            ]
            # Half of a request is none.
            connection.send(streams[0], message(b"\x0a\x02hi")[:-1])
            answers = [await connection.answer(stream) for stream in streams]
        assert {answer["grpc-status"] for answer in answers} == {"4"}
        assert "within 1 s" in answers[0]["grpc-message"]
        for pool in ("calls", "open_calls", "public_calls", "health_watches"):
            await until(lambda pool=pool: under_way(running, pool) == 0)
        codes = [line["code"] for line in running.log if line["event"] == "rpc"]
        assert codes == 6 * ["DEADLINE_EXCEEDED"]


@pytest.mark.parametrize("method", ["RunTask", "StreamTask", "GetTask"])
async def test_a_call_that_ends_without_a_request_is_malformed(method: str) -> None:
    async with started() as running, http2(running.target) as connection:
        stream = connection.begin(f"{SERVICE}/{method}", WITH_KEY)
        connection.send(stream, b"", end=True)
        answer = await connection.answer(stream)
        assert (answer["grpc-status"], answer["grpc-message"]) == ("3", "the call ended without a request")


async def test_every_way_out_leaves_the_place() -> None:
    """Answers, refusals of all kinds, deadlines and cancels, at once and again and again."""
    parts = Parts(model=FakeModel(says("hello")), environ={"OPEN_CALLS_PER_KEY_MAX": "20"})
    async with started(parts) as running, AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(running.channel()) for _ in range(4)]

        async def one(number: int) -> None:
            methods: Any = AgentServiceStub(channels[number % 4])
            metadata = (("x-api-key", (KEY, OTHER_KEY, "wrong")[number % 3]),)
            timeout = 0.001 * (number % 7) or None
            match number % 5:
                case 0:
                    call = methods.RunTask(request(), metadata=metadata, timeout=timeout)
                case 1:
                    call = methods.GetTask(pb.GetTaskRequest(task_id="nope"), metadata=metadata, timeout=timeout)
                case 2:
                    call = methods.RunTask(request(agent="none of them"), metadata=metadata)
                case 3:
                    call = channels[number % 4].unary_unary(f"{SERVICE}/RunTask")(b"\xff", metadata=metadata)
                case _:
                    call = methods.RunTask(request(), metadata=metadata)
                    asyncio.get_running_loop().call_later(0.001 * (number % 11), call.cancel)
            with suppress(grpc.RpcError, asyncio.CancelledError):
                await call

        for _ in range(5):
            await asyncio.gather(*(one(number) for number in range(120)))
        await running.is_quiet()
        for pool in ("calls", "open_calls"):
            await until(lambda pool=pool: under_way(running, pool) == 0)
        assert (await running.client.run("hi")).output == "hello"

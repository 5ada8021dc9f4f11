"""The whole server on each transport: tasks, streams, health, reflection, and how it leaves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agent_service.client import CallError
from agent_service.v1.task_pb2 import TASK_STATE_CANCELED, TASK_STATE_COMPLETED
from tests.harness import FakeModel, Parts, started
from tests.server.transport.serving import Serve
from tests.service.worlds import Gate, until

SERVICE = "agent_service.v1.AgentService"


def parts(serve: Serve, **more: Any) -> Parts:
    return Parts(environ={"API_TRANSPORT": serve.name}, **more)


async def test_the_setting_chooses_the_transport(serve: Serve) -> None:
    async with started(parts(serve)) as running:
        assert (await running.client.run("hi")).output == "hello"
        names = {thread.name for thread in threading.enumerate()}
    assert ("grpc-queue" in names) == (serve.name == "loop")


async def test_tasks_run_and_stream(serve: Serve) -> None:
    async with started(parts(serve)) as running:
        assert (await running.client.run("hi")).state == TASK_STATE_COMPLETED
        arms = [event.WhichOneof("event") async for event in running.client.stream("hi")]
        assert (arms[0], arms[-1]) == ("submitted", "completed")


async def test_a_task_without_a_caller_is_cancelled(serve: Serve) -> None:
    gate = Gate()
    async with started(parts(serve, model=FakeModel(gate.step))) as running:
        call = asyncio.ensure_future(running.client.run("go"))
        await gate.holds()
        call.cancel()
        await running.is_quiet()
        page = await running.client.list_tasks()
        assert [task.state for task in page.tasks] == [TASK_STATE_CANCELED]


async def test_health_is_checked_watched_and_followed_through_the_drain(serve: Serve) -> None:
    async with started(parts(serve)) as running, running.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(request)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        drain = asyncio.create_task(running.server.drain())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await drain


async def test_reflection_answers_several_requests_on_one_stream(serve: Serve) -> None:
    async with started(parts(serve)) as running, running.channel() as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        for _ in range(3):
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            names = {service.name for service in (await call.read()).list_services_response.service}
            assert {SERVICE, "grpc.health.v1.Health"} <= names
        await call.done_writing()


async def test_a_drain_lets_what_runs_end_and_refuses_what_is_new(serve: Serve) -> None:
    gate = Gate()
    async with started(parts(serve, model=FakeModel(gate.step), drain_grace_s=20.0)) as running:
        call = asyncio.ensure_future(running.client.run("go"))
        await gate.holds()
        drain = asyncio.create_task(running.server.drain())
        await until(lambda: running.service.drain_state.stops_at is not None)
        with pytest.raises(CallError) as refused:
            await running.other_tenant.run("more")
        assert refused.value.code == "UNAVAILABLE"
        gate.open()
        assert (await call).output == "hello"
        await drain

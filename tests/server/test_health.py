"""Health while the server starts, works, is stuck and leaves; and watchers who do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agent_service.client import AsyncClient
from agent_service.observe.log import EventLog, render_json
from agent_service.observe.metrics import Metrics
from agent_service.server import readiness as module
from agent_service.server.app import Listening
from agent_service.server.health import READY_NAMES, Health
from agent_service.server.readiness import Readiness
from tests.fakes.store import FakeStore
from tests.harness import SOON_S, Parts, Running, started
from tests.server.http2 import http2, message
from tests.service.worlds import until

NAMES = ("startup", "liveness", "readiness", "", "agent_service.v1.AgentService")


async def statuses(target: str) -> dict[str, str]:
    async with AsyncClient(target, patience_s=0) as client:
        return {name: await client.health(name) for name in NAMES}


def unready(**others: str) -> dict[str, str]:
    return dict.fromkeys(NAMES, "NOT_SERVING") | others


async def test_the_port_for_health_says_that_the_server_lives_while_it_starts() -> None:
    seen: list[dict[str, str]] = []

    async def look(listening: Listening) -> None:
        seen.append(await statuses(f"127.0.0.1:{listening.health_port}"))

    async with started(Parts(starting=look)) as running:
        assert seen == [unready(liveness="SERVING")]
        for target in (running.target, running.health_target):
            assert await statuses(target) == dict.fromkeys(NAMES, "SERVING")


async def test_both_ports_tell_the_same_while_the_store_is_down_and_during_the_drain() -> None:
    store = FakeStore()
    async with started(Parts(store=store, drain_delay_s=3600.0)) as running:
        for is_down in (True, False, True):
            store.is_down = is_down
            await running.server.readiness.check()
            expected = unready(startup="SERVING", liveness="SERVING") if is_down else dict.fromkeys(NAMES, "SERVING")
            async with AsyncClient(running.target) as client:
                assert await client.health("check/tools") == "SERVING"
                assert await client.health("check/store") == ("NOT_SERVING" if is_down else "SERVING")
            assert await statuses(running.target) == await statuses(running.health_target) == expected
        store.is_down = False
        drain = asyncio.create_task(running.server.drain())
        await until(lambda: any(line["event"] == "draining" for line in running.log))
        await running.server.readiness.check()
        told = unready(startup="SERVING", liveness="SERVING")
        assert await statuses(running.target) == await statuses(running.health_target) == told
        drain.cancel()
        await asyncio.wait((drain,))


@asynccontextmanager
async def stuck_watcher(target: str) -> AsyncIterator[None]:
    """Watches, and has a window of zero bytes: what the server has to tell it can never be sent."""
    async with http2(target, window=0) as connection:
        stream = connection.begin("/grpc.health.v1.Health/Watch")
        connection.send(stream, message(b""), end=True)
        assert await connection.headers(stream)  # the status is to follow
        yield


async def watch(running: Running, channel: Any) -> Any:
    """One who reads; it has read that the server is ready."""
    watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
    return watching


async def test_a_watcher_who_cannot_be_told_keeps_nobody_from_being_told_nor_the_server_from_leaving() -> None:
    async with (
        started() as running,
        running.channel() as channel,
        stuck_watcher(running.target),
        stuck_watcher(running.health_target),
    ):
        watching = await watch(running, channel)
        for target in (running.target, running.health_target):
            assert await statuses(target) == dict.fromkeys(NAMES, "SERVING")
        async with asyncio.timeout(SOON_S):  # the server gives calls one second to end
            drain = asyncio.create_task(running.server.drain())
            assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            await drain


class World:
    """Readiness over checks of a test's own."""

    def __init__(self, **checks: Any) -> None:
        self.log: list[bytes] = []
        self.health = Health()
        events = EventLog("DEBUG", render_json, self.log.append)
        self.readiness = Readiness(checks, self.health, events, Metrics("test"), dict)

    def is_ready(self) -> bool:
        return bool(self.health.status("readiness") == health_pb2.HealthCheckResponse.SERVING)


async def fine() -> None: ...


async def hangs() -> None:
    await asyncio.Event().wait()


async def test_a_check_that_does_not_answer_has_failed_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (module.TIMEOUT_S, module.INTERVAL_S) == (1.0, 2.0)
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    meeting = asyncio.Barrier(2)
    world = World(store=hangs, one=meeting.wait, other=meeting.wait)
    assert not await world.readiness.check()
    assert not world.is_ready()
    (line,) = world.log
    assert b"no answer within 0.1 s" in line


async def test_a_check_is_logged_when_it_changes_and_only_then() -> None:
    causes: list[Exception | None] = []

    async def store() -> None:
        if causes and (cause := causes[-1]):
            raise cause

    world = World(store=store, config=fine)
    for cause in (None, None, ValueError("a secret"), ValueError("a secret"), KeyError(), None, None):
        causes.append(cause)
        await world.readiness.check()
        assert world.is_ready() == (cause is None)
    told = b"".join(world.log).decode()
    assert [word for word in ("readiness_failing", "readiness_recovered") for _ in range(told.count(word))] == [
        "readiness_failing",
        "readiness_failing",
        "readiness_recovered",
    ]
    assert "a secret" not in told


async def test_checking_goes_on_after_a_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.0)
    world = World(store=fine)
    faults = [RuntimeError("a secret")]

    def models() -> dict[str, bool]:
        if faults:
            raise faults.pop()
        return {}

    monkeypatch.setattr(world.readiness, "_models", models)
    running = asyncio.create_task(world.readiness.run())
    await until(world.is_ready)
    running.cancel()
    (line,) = world.log
    assert b"readiness_fault" in line
    assert b"a secret" not in line


def test_names_of_readiness_go_together() -> None:
    assert set(READY_NAMES) == {"", "readiness", "agent_service.v1.AgentService"}

"""Who reads the metrics gets them, and whoever does it badly hurts nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent_service.observe import scraping
from agent_service.observe.scraping import CONNECTIONS_MAX, MetricsServer


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("it_is_there", "Always.", registry=registry).set(1)
    return registry


@pytest.fixture
def server(registry: CollectorRegistry) -> Iterator[MetricsServer]:
    server = MetricsServer(registry, "127.0.0.1", 0)
    yield server
    server.close()


async def asked(server: MetricsServer, request: str = "GET /metrics", *headers: str) -> tuple[str, str]:
    """The head and the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("\r\n".join([f"{request} HTTP/1.1", "Host: it", *headers, "", ""]).encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head, body


async def test_the_metrics_are_served_as_text(server: MetricsServer) -> None:
    head, body = await asked(server)
    assert head.startswith("HTTP/1.1 200 OK")
    assert "Content-Type: text/plain" in head
    assert "it_is_there 1.0" in body.splitlines()


async def test_they_are_served_as_openmetrics_to_those_who_ask(server: MetricsServer) -> None:
    head, body = await asked(server, "GET /metrics", "Accept: application/openmetrics-text; version=1.0.0")
    assert "Content-Type: application/openmetrics-text" in head
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /metrics?name=x", 200), ("HEAD /metrics", 200), ("GET /etc/passwd", 404), ("POST /metrics", 405), ("", 405)],
)
async def test_nothing_else_is_served(server: MetricsServer, request_line: str, status: int) -> None:
    head, body = await asked(server, request_line)
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert ("it_is_there" in body) == (request_line.startswith("GET") and status == 200)


async def test_whoever_sends_no_request_does_not_keep_others_from_being_served(server: MetricsServer) -> None:
    async with idle_connections(server, 4 * CONNECTIONS_MAX):
        _, body = await asked(server)
    assert "it_is_there" in body


async def test_connections_and_threads_stay_few_however_many_come(server: MetricsServer) -> None:
    threads = threading.active_count()
    async with idle_connections(server, 4 * CONNECTIONS_MAX) as readers:
        cut_off = [asyncio.create_task(reader.read()) for reader in readers[: 3 * CONNECTIONS_MAX]]
        await asyncio.gather(*cut_off, return_exceptions=True)
        assert threading.active_count() <= threads  # one of an earlier test may have ended


async def test_whoever_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "EXCHANGE_S", 0.2)
    registry = CollectorRegistry()
    # More than the buffers of both sockets hold.
    Gauge("large", "x" * 32 * 1024 * 1024, registry=registry)
    server = MetricsServer(registry, "127.0.0.1", 0)
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            await asyncio.to_thread(_wait_until_nobody_is_connected, server)
    finally:
        server.close()


def _wait_until_nobody_is_connected(server: MetricsServer) -> None:
    ends = time.monotonic() + 20
    served = False
    while time.monotonic() < ends:
        served = served or bool(server._connections)
        if served and not server._connections:
            return
        time.sleep(0.01)
    raise AssertionError("it is still connected")


async def test_a_request_that_is_too_long_is_cut_off(server: MetricsServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /metrics HTTP/1.1\r\n" + b"x" * 100_000)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert "it_is_there" in (await asked(server))[1]


class _Slow(Collector):
    """Takes a while, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def collect(self) -> Iterator[Metric]:
        self.asked += 1
        ends = time.monotonic() + 0.05
        while time.monotonic() < ends:
            """Busy, as rendering is."""
        yield GaugeMetricFamily("slow", "", self.asked)


async def test_however_many_ask_rendering_takes_a_tenth_of_the_time() -> None:
    registry, slow = CollectorRegistry(), _Slow()
    registry.register(slow)
    slow.asked = 0
    server = MetricsServer(registry, "127.0.0.1", 0)
    try:
        began = time.monotonic()
        for _ in range(3):
            await asyncio.gather(*(asked(server) for _ in range(10)))
        took_s = time.monotonic() - began
    finally:
        server.close()
    assert slow.asked <= 2 + took_s / 0.5


async def test_what_is_served_was_rendered_after_it_was_asked_for(
    server: MetricsServer, registry: CollectorRegistry
) -> None:
    moving = Gauge("moving", "", registry=registry)
    for number in range(5):
        moving.set(number)
        assert f"moving {number}.0" in (await asked(server))[1]


async def test_they_are_served_while_the_services_own_loop_stands_still(server: MetricsServer) -> None:
    answers: list[bytes] = []

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            answers.append(connection.recv(100))

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(10)  # here, in the loop's thread: nothing of this loop runs meanwhile
    assert answers[0].startswith(b"HTTP/1.1 200")


@contextlib.asynccontextmanager
async def idle_connections(server: MetricsServer, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many that are opened, and then nothing is sent."""
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.transport.abort()

"""What metrics and traces add to the CPU of a full RunTask, all measured in one run.

    make bench-telemetry

Servers as in `run_task.py`, each a process of its own on one core: without metrics and traces; with metrics; with
metrics and 1 % of the traces sampled; with all of them. Sampled ones are really sent, to a collector in this process
that throws them away. "Without metrics" is the same server whose counters and histograms count nothing. Rounds
alternate, in another order each time. Prints the CPU of a call, the ratio to the first, and what it adds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from grpc import aio

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from bench.run_task import LOCAL, UNLIMITED, pinned
from tests.support.server_process import KEY, running_server

# The server, with counters and histograms that count nothing.
UNCOUNTED = """
from agent_service.cli import main
from agent_service.observe.instruments import Count, Distribution
Count.inc = lambda self, amount=1: None
Distribution.observe = lambda self, value, trace=None: None
main(["serve"])
"""
SERVE = "from agent_service.cli import main; main(['serve'])"


@dataclass
class Subject:
    """A server: what it runs, its process and channel, and what was measured."""

    name: str
    code: str
    settings: dict[str, str] = field(default_factory=dict)
    cpu_us: list[float] = field(default_factory=list)

    @contextmanager
    def running(self, directory: Path, core: int) -> Iterator[None]:
        directory.mkdir()
        with running_server(directory, *pinned(core, "-c", self.code), **(UNLIMITED | self.settings)) as server:
            self.process = server.process
            self.run_task = AgentServiceStub(aio.insecure_channel(server.target, options=LOCAL)).RunTask
            yield

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, to the nanosecond: rounds are short, so that a machine that changes its
        speed changes all of them.
        """
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    async def measure(self, calls: int, in_flight: int) -> float:
        """The CPU of a call, in µs, over so many calls."""
        request, metadata = pb.RunTaskRequest(task="hello"), (("x-api-key", KEY),)

        async def caller() -> None:
            for _ in range(calls // in_flight):
                await self.run_task(request, metadata=metadata)

        before = self.cpu_s()
        await asyncio.gather(*(caller() for _ in range(in_flight)))
        return (self.cpu_s() - before) / (calls // in_flight * in_flight) * 1e6


async def sink() -> asyncio.Server:
    """A collector that takes everything and keeps nothing."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return await asyncio.start_server(take, "127.0.0.1", 0)


async def bench(rounds: int, calls: int, in_flight: int, core: int, warm_up: int) -> None:
    collector = await sink()
    traced = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.sockets[0].getsockname()[1]}",
    }
    subjects = [
        Subject("nothing", UNCOUNTED),
        Subject("metrics", SERVE),
        Subject("metrics, traces 1 %", SERVE, traced | {"OTEL_TRACES_SAMPLER_ARG": "0.01"}),
        Subject("metrics, traces 100 %", SERVE, traced),
    ]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number, subject in enumerate(subjects):
            stack.enter_context(subject.running(directory / str(number), core))
            await subject.measure(warm_up, in_flight)
        for turn in range(rounds):
            for offset in range(len(subjects)):
                subject = subjects[(turn + offset) % len(subjects)]
                subject.cpu_us.append(await subject.measure(calls, in_flight))
    collector.close()
    report(subjects)
    print(f"({in_flight} in flight, {rounds} rounds of {calls} calls)")


def report(subjects: list[Subject]) -> None:
    base, first = statistics.median(subjects[0].cpu_us), subjects[0].cpu_us
    for subject in subjects:
        cpu = statistics.median(subject.cpu_us)
        # Round by round, as a machine that changes its speed changes both.
        ratio = statistics.median(mine / its for mine, its in zip(subject.cpu_us, first, strict=True))
        print(f"{subject.name:<22} {cpu:7.0f} us CPU a call   x {ratio:.3f}   {(ratio - 1) * base:+6.0f} us")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=320)
    parser.add_argument("--warm-up", type=int, default=640, help="calls before the first that counts")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--server-core", type=int, default=0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {core for core in os.sched_getaffinity(0) if core != given.server_core} or {0})
    uvloop.run(bench(given.rounds, given.calls, given.in_flight, given.server_core, given.warm_up))

"""A RunTask, and a task that streams, on each transport, as ratios: both servers are measured in one run.

    make bench-transports

Each server is a process of its own on the same core, as `serve` starts it, with SQLite; the load comes from this one.
Rounds alternate, so that a machine that changes its speed changes both. Prints the CPU of a call, calls per second and
context switches of a call, as medians of the rounds, and the median of the ratios round by round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from grpc import aio

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.support.server_process import KEY, running_server

LOCAL = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
METADATA = (("x-api-key", KEY),)
UNLIMITED = {"RATE_LIMIT_CALLS": "1000000000", "RATE_LIMIT_TOKENS": "1000000000000"}
TRANSPORTS = ("aio", "loop")


@dataclass
class Subject:
    """One server, and what was measured of it: for each round CPU in microseconds, calls a second, switches."""

    transport: str
    pid: int
    stub: Any
    rounds: list[tuple[float, float, float]] = field(default_factory=list)


def spent(pid: int) -> tuple[float, int]:
    """CPU seconds of a process so far, and context switches of its threads."""
    cpu = switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu += int((task / "schedstat").read_text().split()[0])
        switches += sum(int(line.split()[1]) for line in (task / "status").read_text().splitlines() if "ctxt" in line)
    return cpu / 1e9, switches


async def run_task(stub: Any) -> None:
    await stub.RunTask(pb.RunTaskRequest(task="hello"), metadata=METADATA)


async def stream_task(stub: Any) -> None:
    request = pb.StreamTaskRequest(run=pb.RunTaskRequest(task="hello"))
    async for _ in stub.StreamTask(request, metadata=METADATA):
        pass


async def get_usage(stub: Any) -> None:
    await stub.GetUsage(pb.GetUsageRequest(), metadata=METADATA)


CALLS: dict[str, Callable[[Any], Awaitable[None]]] = {
    "RunTask": run_task,
    "StreamTask": stream_task,
    "GetUsage": get_usage,
}


async def measure(subject: Subject, call: Callable[[Any], Awaitable[None]], calls: int, in_flight: int) -> None:
    left = calls

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call(subject.stub)

    (cpu, switches), began = spent(subject.pid), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    took = time.perf_counter() - began
    cpu_after, switches_after = spent(subject.pid)
    subject.rounds.append(((cpu_after - cpu) / calls * 1e6, calls / took, (switches_after - switches) / calls))


async def bench(name: str, rounds: int, calls: int, in_flight: int, server_core: int) -> None:
    async with AsyncExitStack() as stack:
        subjects = []
        for transport in TRANSPORTS:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            serve = ["taskset", "-c", str(server_core), sys.executable, "-m", "agent_service", "serve"]
            server = stack.enter_context(running_server(directory, *serve, API_TRANSPORT=transport, **UNLIMITED))
            channel = await stack.enter_async_context(aio.insecure_channel(server.target, options=LOCAL))
            subjects.append(Subject(transport, server.process.pid, AgentServiceStub(channel)))
        for subject in subjects:
            await measure(subject, CALLS[name], calls, in_flight)
            subject.rounds.clear()
        for number in range(rounds):
            for subject in subjects if number % 2 else reversed(subjects):
                await measure(subject, CALLS[name], calls, in_flight)
    for subject in subjects:
        cpu, rate, switches = (statistics.median(column) for column in zip(*subject.rounds, strict=True))
        print(f"{name:10} {in_flight:3} {subject.transport:5} {cpu:7.0f} us CPU {rate:7.0f}/s {switches:6.1f} switches")
    first, second = subjects
    pairs = list(zip(first.rounds, second.rounds, strict=True))
    cpu = statistics.median(a[0] / b[0] for a, b in pairs)
    rate = statistics.median(b[1] / a[1] for a, b in pairs)
    print(f"{name:10} {in_flight:3} {first.transport} / {second.transport}: CPU {cpu:.2f}, calls per second {rate:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, nargs="*", default=[64, 1])
    parser.add_argument("--server-core", type=int, default=0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {core for core in os.sched_getaffinity(0) if core != given.server_core} or {0})
    for called in CALLS:
        for at_once in given.in_flight:
            size = given.calls if at_once > 1 else given.calls // 4
            uvloop.run(bench(called, given.rounds, size, at_once, given.server_core))

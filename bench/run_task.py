"""What a full, durable RunTask costs beside a bare grpc.aio echo, both measured in one run.

    make bench

Two servers, each a process of its own on one core, each with uvloop; the load comes from this process on another core.
"Full" is a key checked, limits reserved and settled, an access-log line and a task line written, metrics counted, the
journal on SQLite with every commit synced; the scripted model answers at once. Rounds alternate, so that a machine that
changes its speed changes both. Prints calls per second, CPU per call and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from grpc import aio

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.support.server_process import KEY, running_server

TASK = "hello"
LOCAL = (("grpc.enable_http_proxy", 0),)
UNLIMITED = {"RATE_LIMIT_CALLS": "1000000000", "RATE_LIMIT_TOKENS": "1000000000000"}

ECHO = """
import asyncio, grpc, uvloop
from grpc import aio
async def echo(request, context): return request
async def main():
    server = aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()
uvloop.run(main())
"""


@dataclass
class Subject:
    """One of the two: its process, how to call it, and what was measured."""

    name: str
    process: subprocess.Popen[bytes]
    call: Callable[[], Awaitable[object]]
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds of a process so far, user and system."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def echo_server(core: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    process = subprocess.Popen(pinned(core, "-c", ECHO), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def pinned(core: int, *arguments: str) -> list[str]:
    return ["taskset", "-c", str(core), sys.executable, *arguments]


async def measure(subject: Subject, seconds: float, in_flight: int) -> None:
    """One round: as many calls as fit, `in_flight` at a time."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await subject.call()
            done += 1

    cpu, began = cpu_s(subject.process), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    subject.rates.append(done / (time.perf_counter() - began))
    subject.cpu_us.append((cpu_s(subject.process) - cpu) / done * 1e6)


async def bench(rounds: int, seconds: float, in_flight: int, server_core: int) -> None:
    serve = pinned(server_core, "-m", "agent_service", "serve")
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        echo_process, echo_port = stack.enter_context(echo_server(server_core))
        full = stack.enter_context(running_server(directory, *serve, **UNLIMITED))
        echo_channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{echo_port}", options=LOCAL))
        full_channel = await stack.enter_async_context(aio.insecure_channel(full.target, options=LOCAL))
        echo_call = echo_channel.unary_unary("/bench.Echo/Echo")
        stub = AgentServiceStub(full_channel)
        request, metadata = pb.RunTaskRequest(task=TASK), (("x-api-key", KEY),)
        payload = request.SerializeToString()
        subjects = [
            Subject("bare echo", echo_process, lambda: echo_call(payload)),
            Subject("full RunTask", full.process, lambda: stub.RunTask(request, metadata=metadata)),
        ]
        for subject in subjects:
            await measure(subject, 1.0, in_flight)
            subject.rates.clear()
            subject.cpu_us.clear()
        for _ in range(rounds):
            for subject in subjects:
                await measure(subject, seconds, in_flight)
    for subject in subjects:
        rate, cpu = statistics.median(subject.rates), statistics.median(subject.cpu_us)
        print(f"{subject.name:<14} {rate:8.0f} calls/s   {cpu:7.0f} us CPU a call")
    echo_rate, full_rate = (statistics.median(subject.rates) for subject in subjects)
    ratio = full_rate / echo_rate
    print(f"ratio full / bare echo: {ratio:.2f}   ({in_flight} in flight, {rounds} rounds of {seconds:g} s)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--server-core", type=int, default=0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {core for core in os.sched_getaffinity(0) if core != given.server_core} or {0})
    uvloop.run(bench(given.rounds, given.seconds, given.in_flight, given.server_core))

"""The rows that peers add, each of those that are installed."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.contenders.base import Case, Contender, Running, Work
from bench.contenders.worker import worker
from bench.load.generator import Call
from bench.machine import pinned
from bench.peers.install import NAMES, PROGRAMS, python_of

# The program of each, and whether it runs in process.
SERVERS = {"a2a": "a2a_server.py", "fastapi": "fastapi_server.py"}
IN_PROCESS = {"langgraph": "langgraph_agent.py", "openai-agents": "openai_agents.py"}
ANSWER = b"an answer of a peer, as fast as it can"
# The calls in flight that peers are compared at.
MANY = (64,)
A2A = "/lf.a2a.v1.A2AService/"
DOCUMENT = b'{"task":"hello"}'
HTTP_HEADERS = {"content-type": "application/json", "x-api-key": "k" * 32}


def left_out() -> list[str]:
    """The peers that are not installed."""
    return [name for name in NAMES if python_of(name) is None]


def call_cases() -> list[Case]:
    """Calls and runs that are answered at once."""
    cases = []
    if (a2a := server("a2a")) is not None:
        cases.append(Case("a2a-sdk, task in memory", a2a, partial(_a2a, "SendMessage", "task", 1), in_flight=MANY))
    if (fastapi := server("fastapi")) is not None:
        call = Call("/run", DOCUMENT, (DOCUMENT,), HTTP_HEADERS, protocol="http1")
        cases.append(Case("FastAPI, echo", fastapi, lambda _: call, in_flight=MANY))
    for name, program in IN_PROCESS.items():
        if (python := python_of(name)) is not None:
            library = worker(name, python, str(PROGRAMS / program))
            cases += [
                Case(f"{name}, {calls} tool call{'s' * (calls != 1)}", library, partial(_run, calls), in_flight=MANY)
                for calls in (0, 1, 5)
            ]
    return cases


def stream_cases() -> list[Case]:
    """Live streams of 20 deltas 10 ms apart."""
    a2a = server("a2a")
    name = "a2a-sdk, 20 deltas"
    return [Case(name, a2a, partial(_a2a, "SendStreamingMessage", "stream", 20))] if a2a is not None else []


def server(name: str, port: int = 0) -> Contender | None:
    """The server of a peer, on a free port if none is given; None if it is not installed."""
    python = python_of(name)
    return Contender(name, partial(_started, (python, str(PROGRAMS / SERVERS[name]), str(port)))) if python else None


@contextmanager
def _started(command: Sequence[str], directory: Path, core: int) -> Iterator[Running]:
    with subprocess.Popen(pinned(core, *command), cwd=directory, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{command[1]} did not start")
            about = json.loads(line)
            bodies = {name: base64.b64decode(body) for name, body in about["bodies"].items()}
            yield Running((process.pid,), (f"127.0.0.1:{about['port']}",), bodies=bodies)
        finally:
            process.kill()


def _a2a(method: str, body: str, messages_min: int, running: Running) -> Call:
    return Call(A2A + method, running.bodies[body], (ANSWER,), messages_min=messages_min)


def _run(calls: int, _: Running) -> Work:
    return Work(str(calls))

"""Holds counts of a task that hardly vary, so that its cost does not grow unseen: they need no quiet machine.

    make bench-guard                    compare with bench/guard.json; a count above its tolerance fails
    make bench-guard ARGS=--update      write the counts of now, with the tolerances of before

Tasks run one at a time. `bench/counted_server.py` counts what Python does; a plain server shows system calls that read
and write, and the switches of its threads; `bench.breadth` counts the frames of a text delta. A count is the first
decile of all rounds: what runs beside a task only adds to it. Bytecodes are counted rather than instructions, which
need valgrind or counters of the processor: the one takes minutes, the others are often missing. They differ between
versions of Python, so the counts of another one than the file's are only shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from bench.contenders.service import ANSWER, HEADERS, service
from bench.machine import cores, counters

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_name("guard.json")
PROGRAM = str(Path(__file__).with_name("counted_server.py"))
COUNTED = f"import runpy, sys; sys.argv[1:] = ['counts']; runpy.run_path({PROGRAM!r}, run_name='__main__')"
WARM_UP = 15
# Until a task's last work is done: it writes lines of the log after its answer.
QUIET_S = 0.03
PLAIN, TOOL, DELTA = "plain RunTask", "RunTask with one tool call", "a delta, one watcher"
SYSTEM = {"reads", "writes", "voluntary switches"}
# Rounds of a delta; each lasts a second.
DELTA_ROUNDS = 15

Counts = dict[str, float]


def counted(rounds: int) -> dict[str, Counts]:
    """Counts of Python code, of asyncio and of commits, for a task of each case."""
    with _server(COUNTED) as (directory, _, run_task):

        def read() -> dict[str, int]:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(directory / "counts"))
                counts: dict[str, int] = json.loads(asking.makefile().read())
                return counts

        calls = {PLAIN: lambda: run_task("hello"), TOOL: lambda: run_task("tools 1")}
        return {case: _lowest_tenths(call, read, rounds) for case, call in calls.items()}


def of_the_system(rounds: int) -> Counts:
    """System calls that read and write, and switches, of a task."""
    with _server() as (_, pid, run_task):

        def read() -> dict[str, int]:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
            done = {name: int(value) for name, value in (line.split(": ") for line in lines)}
            switches = counters([pid]).voluntary
            return {"reads": done["syscr"], "writes": done["syscw"], "voluntary switches": switches}

        return _lowest_tenths(lambda: run_task("hello"), read, rounds)


def delta(rounds: int) -> Counts:
    """Frames of own functions for a text delta, from the model's bytes to its watcher."""
    command = [sys.executable, "-m", "bench.breadth", "--json", "--only", "deltas", "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {"frames": float(json.loads(done.stdout)[DELTA]["frames"])}


@contextmanager
def _server(code: str = "") -> Iterator[tuple[Path, int, Callable[[str], None]]]:
    """A server, its directory and process, and a task that runs to its end."""
    contender = service(code=code) if code else service()
    with tempfile.TemporaryDirectory(prefix="guard-") as name, contender.start(Path(name), cores()[0]) as running:
        channel = grpc.insecure_channel(running.targets[0], options=(("grpc.enable_http_proxy", 0),))
        stub = AgentServiceStub(channel)

        def run_task(task: str) -> None:
            reply = stub.RunTask(pb.RunTaskRequest(task=task), metadata=tuple(HEADERS.items()), timeout=60)
            if (reply.task.state, reply.task.output) != (TASK_STATE_COMPLETED, ANSWER):
                raise RuntimeError(f"a task did not end as it should: {reply}")
            time.sleep(QUIET_S)

        with channel:
            yield Path(name), running.pids[0], run_task


def _lowest_tenths(call: Callable[[], None], read: Callable[[], dict[str, int]], rounds: int) -> Counts:
    for _ in range(WARM_UP):
        call()
    found: list[dict[str, int]] = []
    for _ in range(rounds):
        before = read()
        call()
        after = read()
        found.append({name: after[name] - before.get(name, 0) for name in after})
    return {name: statistics.quantiles([each[name] for each in found], n=10)[0] for name in found[0]}


def measured(rounds: int, held: Mapping[str, Mapping[str, Any]]) -> dict[str, Counts]:
    """The counts that are held, by case."""
    found = counted(rounds)
    if SYSTEM & held.get(PLAIN, {}).keys():
        found[PLAIN] |= of_the_system(rounds)
    if DELTA in held:
        found[DELTA] = delta(min(rounds, DELTA_ROUNDS))
    return found


def problems(found: Mapping[str, Counts], held: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The counts that have grown beyond their tolerance."""
    for case, counts in held.items():
        for name, bound in counts.items():
            most = bound["count"] * (1 + bound["tolerance"])
            if found[case][name] > most:
                yield f"{case}: {found[case][name]:g} {name}, at most {most:g} ({bound['count']:g} before)"


def updated(found: Mapping[str, Counts], held: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The new content of the file: the counts of now, with the tolerances of before."""
    figures = {
        case: {name: bound | {"count": round(found[case][name])} for name, bound in counts.items()}
        for case, counts in held.items()
    }
    return {"python": version(), "figures": figures}


def version() -> str:
    """The version of Python that counts belong to."""
    return ".".join(platform.python_version_tuple()[:2])


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="tasks that are counted (default: 40)")
    parser.add_argument(
        "--file", type=Path, default=FILE, help="the counts to compare with (default: bench/guard.json)"
    )
    parser.add_argument("--update", action="store_true", help="write the counts of now into the file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Count, and compare or update."""
    given = options(arguments)
    held = json.loads(given.file.read_text("utf-8"))
    found = measured(given.rounds, held["figures"])
    for case, bounds in held["figures"].items():
        print(f"{case}: " + ", ".join(f"{found[case][name]:g} {name} ({bounds[name]['count']:g})" for name in bounds))
    if given.update:
        given.file.write_text(json.dumps(updated(found, held["figures"]), indent=1) + "\n", "utf-8")
        return 0
    if held["python"] != version():
        print(f"the counts are those of Python {held['python']}, this is {version()}: not compared")
        return 0
    grown = list(problems(found, held["figures"]))
    for problem in grown:
        print(f"grown: {problem}", file=sys.stderr)
    if grown:
        print("If the growth is worth it: make bench-guard ARGS=--update, and say why in the commit.", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

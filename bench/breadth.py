"""How much of our own code a task goes through: entries into functions, and what asyncio makes for it.

    make bench-breadth

A server as `serve` starts it, in this process and with SQLite, on a plain asyncio loop that counts; the callers are
threads of the same process. Every frame of `agent_service` that begins is an entry, every one that goes on after an
await or a yield a resumption, on whatever thread; generated messages, the Python client and comprehensions are left
out. Each case is warm, is measured again and again, and the round with the fewest frames is shown: periodic work that
fell into a round is not the task's.

A delta is measured with a model of OpenAI's API on loopback and one caller of StreamTask: the frames of a long reply
less those of a short one that takes as long, divided by the deltas that it has more, rounded for each function.

Of `agent_service` only the command line and the generated messages are imported: any version can be measured by copying
this file there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dis
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = str(ROOT / "agent_service") + os.sep
LEFT_OUT = (PACKAGE + "v1" + os.sep, PACKAGE + "client" + os.sep)
KEY = "bench-key-bench-key-bench-key-bench-key"
PLAIN, TOOL = "say hello", 'call echo {"text": "hello"}'
# Above the 15 ms within which deltas are merged.
DELTA_S = 0.03
FEW, MANY = 2, 22
QUIET_S = 0.03


@dataclass
class Recording:
    """What happened between two moments."""

    entries: Counter[CodeType] = field(default_factory=Counter)
    resumptions: Counter[CodeType] = field(default_factory=Counter)
    elsewhere: int = 0  # entries on other threads than the loop's
    made: Counter[str] = field(default_factory=Counter)

    @property
    def frames(self) -> int:
        return self.entries.total() + self.resumptions.total()

    @property
    def files(self) -> set[str]:
        return {code.co_filename for code in self.entries}


recording: Recording | None = None


@cache
def first_step(code: CodeType) -> int | None:
    """Where a frame of this code stands when it begins; None for code that is not counted."""
    name = code.co_filename
    if not name.startswith(PACKAGE) or name.startswith(LEFT_OUT) or code.co_name.endswith("comp>"):
        return None
    return next(step.offset for step in dis.get_instructions(code) if step.opname == "RESUME")


def profile(frame: FrameType, event: str, _: object) -> None:
    if recording is None or event != "call":
        return
    begin = first_step(frame.f_code)
    if begin is not None:
        counts = recording.entries if frame.f_lasti <= begin else recording.resumptions
        counts[frame.f_code] += 1
        if counts is recording.entries and threading.current_thread() is not threading.main_thread():
            recording.elsewhere += 1


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts the tasks, futures and timers that are made, by grpc too."""

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        self._count("asyncio tasks")
        return super().create_task(*args, **kwargs)

    def create_future(self) -> Any:
        self._count("futures")
        return super().create_future()

    def call_at(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self._count("timers")
        return super().call_at(*args, **kwargs)

    def _count(self, what: str) -> None:
        if recording is not None:
            recording.made[what] += 1


@contextlib.contextmanager
def recorded() -> Iterator[Recording]:
    """Record until the block has ended and what it left has been done."""
    global recording
    recording = mine = Recording()
    try:
        yield mine
        time.sleep(QUIET_S)
    finally:
        recording = None


def fewest(rounds: int, call: Callable[[], bool]) -> Recording:
    """The round with the fewest frames, after two that warm up; a round whose call is False does not count."""
    found: list[Recording] = []
    for _ in range(10 * rounds):
        with recorded() as one:
            is_valid = call()
        if is_valid:
            found.append(one)
        if len(found) == rounds + 2:
            break
    if not found:
        raise RuntimeError("no round ran as it should")
    return min(found[2:] or found, key=lambda one: one.frames)


# --- The model's side of a delta ---


class Gateway(BaseHTTPRequestHandler):
    """Answers every request with the deltas that `deltas` says, over the same time."""

    protocol_version = "HTTP/1.1"
    deltas = FEW

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        count = type(self).deltas
        for _ in range(count):
            self._send({"delta": {"content": "word "}, "finish_reason": None})
            time.sleep(DELTA_S * MANY / count)
        self._send({"delta": {}, "finish_reason": "stop"}, usage={"prompt_tokens": 9, "completion_tokens": count})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _send(self, choice: dict[str, Any], **more: object) -> None:
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        body = chunk | {"choices": [{"index": 0, **choice}]} | more
        self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")

    def log_message(self, *_: object) -> None:
        pass


# --- A process with a server and its caller ---


def inside(kind: str, rounds: int, measured: Path) -> None:
    """Serve, measure from another thread, write what was found, and leave."""
    import uvloop

    settings = {
        "API_KEY": KEY,
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "HEALTH_PORT": "0",
        "METRICS_PORT": "0",
        "LLM_PROVIDER": "scripted",
        "DATABASE_URL": f"sqlite:///{measured.parent / 'breadth.db'}",
    }
    if kind == "deltas":
        gateway = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{gateway.server_address[1]}/v1"
        settings |= {"LLM_PROVIDER": "openai", "LLM_BASE_URL": url, "OPENAI_API_KEY": "k", "LLM_MODEL": "m"}
    listed = os.environ.get("BREADTH_LIST", "")
    os.environ.clear()
    os.environ.update(settings | {"BREADTH_LIST": listed})
    log = measured.parent / "log"
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    uvloop.run = run_counting  # type: ignore[assignment]
    threading.Thread(target=calling, args=(kind, rounds, measured, log), daemon=True).start()
    threading.setprofile(profile)
    sys.setprofile(profile)
    from agent_service.cli import main

    main(["serve"])


def run_counting(coroutine: Any) -> None:
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(coroutine)


def calling(kind: str, rounds: int, measured: Path, log: Path) -> None:
    try:
        found = {"deltas": deltas, "tasks": tasks}[kind](started_port(log), rounds)
        measured.write_text(json.dumps(found))
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def started_port(log: Path) -> int:
    while True:
        for line in log.read_bytes().splitlines():
            if line.startswith(b"{") and json.loads(line)["event"] == "started":
                return int(json.loads(line)["port"])
        time.sleep(0.05)


def tasks(port: int, rounds: int) -> dict[str, dict[str, int]]:
    from agent_service.v1 import agent_service_pb2 as pb

    stub = connect(port)

    def run(task: str, calls: int) -> bool:
        reply = stub.RunTask(pb.RunTaskRequest(task=task), metadata=(("x-api-key", KEY),), timeout=30)
        usage = reply.task.usage
        return (usage.model_calls, usage.tool_calls) == (calls + 1, calls)

    cases = {"plain RunTask": (PLAIN, 0), "RunTask with one tool call": (TOOL, 1)}
    found = {}
    for name, (task, calls) in cases.items():
        one = fewest(rounds, lambda task=task, calls=calls: run(task, calls))  # type: ignore[misc]
        found[name] = {
            "entries": one.entries.total(),
            "of these on other threads": one.elsewhere,
            "resumptions": one.resumptions.total(),
            "functions": len(one.entries),
            "files": len(one.files),
            "asyncio tasks": one.made["asyncio tasks"],
            "futures": one.made["futures"],
            "timers": one.made["timers"],
        }
        listed = os.environ.get("BREADTH_LIST")
        if listed:
            lines = [f"{count:4} {resumed(one, code)} {place(code)}" for code, count in one.entries.most_common()]
            Path(listed, name.replace(" ", "-")).write_text("\n".join(lines) + "\n")
    return found


def deltas(port: int, rounds: int) -> dict[str, dict[str, int]]:
    from agent_service.v1 import agent_service_pb2 as pb

    stub = connect(port)

    def stream() -> bool:
        """Whether each delta came by itself: on a busy machine some are merged."""
        request = pb.StreamTaskRequest(run=pb.RunTaskRequest(task="write"))
        replies = list(stub.StreamTask(request, metadata=(("x-api-key", KEY),), timeout=30))
        return [reply.event.HasField("text_delta") for reply in replies].count(True) == Gateway.deltas

    measured = {}
    for count in (FEW, MANY):
        Gateway.deltas = count
        measured[count] = fewest(max(3, rounds // 5), stream)
    few, many = measured[FEW], measured[MANY]
    more = MANY - FEW
    entries, resumptions = (
        per_delta(many.entries - few.entries, more),
        per_delta(many.resumptions - few.resumptions, more),
    )
    functions = entries | resumptions
    listed = os.environ.get("BREADTH_LIST")
    if listed:
        lines = [f"{entries[code]:4} +{resumptions[code]:<3} {place(code)}" for code in functions]
        Path(listed, "delta").write_text("\n".join(lines) + "\n")
    return {
        "a delta, one watcher": {
            "frames": entries.total() + resumptions.total(),
            "entries": entries.total(),
            "resumptions": resumptions.total(),
            "functions": len(functions),
            "files": len({code.co_filename for code in functions}),
            **{
                what: round((many.made[what] - few.made[what]) / more)
                for what in ("asyncio tasks", "futures", "timers")
            },
        }
    }


def per_delta(added: Counter[CodeType], deltas: int) -> Counter[CodeType]:
    """What each delta costs, without what periodic work added to all of them."""
    return Counter({code: each for code, count in added.items() if (each := round(count / deltas))})


def resumed(one: Recording, code: CodeType) -> str:
    return f"+{one.resumptions[code]:<3}"


def place(code: CodeType) -> str:
    return f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_qualname}"


def connect(port: int) -> Any:
    import grpc

    from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub

    return AgentServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="how often each case is measured (default: 25)")
    parser.add_argument("--list", type=Path, metavar="DIR", help="write each case's functions into files in DIR")
    parser.add_argument("--only", choices=("tasks", "deltas"), help="measure these alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument("--inside", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.inside:
        inside(options.inside[0], options.rounds, Path(options.inside[1]))
        return
    environ = dict(os.environ)
    if options.list:
        options.list.mkdir(parents=True, exist_ok=True)
        environ["BREADTH_LIST"] = str(options.list.resolve())
    found: dict[str, dict[str, int]] = {}
    for kind in (options.only,) if options.only else ("tasks", "deltas"):
        with tempfile.TemporaryDirectory() as directory:
            measured = Path(directory, "measured")
            command = [sys.executable, __file__, "--rounds", str(options.rounds), "--inside", kind, str(measured)]
            subprocess.run(command, cwd=directory, env=environ, timeout=300, check=False)
            if not measured.exists():
                raise SystemExit(Path(directory, "log").read_text())
            found |= json.loads(measured.read_text())
    if options.json:
        print(json.dumps(found))
        return
    for name, counts in found.items():
        print(f"{name}: " + ", ".join(f"{count:g} {what}" for what, count in counts.items()))


if __name__ == "__main__":
    main()

"""Builds the load generator, and runs it with a specification."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench.machine import pinned

SOURCE = Path(__file__).parent
PROGRAM = SOURCE.parents[1] / ".tools" / "bin" / "bench-load"


@dataclass(frozen=True)
class Call:
    """One kind of call, and what its answer must be like.

    Of an answer the status, the number of messages (at least `messages_min`) and the parts of the last message are
    checked. `headers` are those beside the protocol's.
    """

    path: str
    body: bytes
    expect: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    messages_min: int = 1
    protocol: str = "grpc"
    stamped: bool = False


@dataclass(frozen=True)
class Shape:
    """Number of calls, and number of calls in flight."""

    calls: int
    in_flight: int
    connections: int = 8
    timeout_s: float = 120.0


@cache
def program() -> str:
    """The program, built from its source.

    Raises:
        RuntimeError: there is no Go, or it does not build.
    """
    go = shutil.which("go")
    if go is None:
        raise RuntimeError("the load generator needs Go, of the version in bench/load/go.mod or newer, on PATH")
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        [go, "build", "-o", PROGRAM, "."], cwd=SOURCE, capture_output=True, text=True, env=_environment(), check=False
    )
    if built.returncode != 0:
        raise RuntimeError(f"the load generator does not build: {built.stderr.strip()}")
    return str(PROGRAM)


def _environment() -> dict[str, str]:
    bending = ("GOOS", "GOARCH", "GOFLAGS")
    return {name: value for name, value in os.environ.items() if name not in bending} | {"CGO_ENABLED": "0"}


class Load:
    """A generator that has connected and waits for the word to begin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self) -> dict[str, Any]:
        """Make the calls; what was measured. Raises as `result` does."""
        self.begin()
        return self.result()

    def begin(self) -> None:
        """Begin to make the calls."""
        self._tell("go")

    def result(self) -> dict[str, Any]:
        """Wait for the end of the calls; what was measured.

        Raises:
            RuntimeError: an answer was wrong, a connection failed, or it took longer than its timeout.
        """
        result = self._hear()
        if result["wrong"]:
            raise RuntimeError(
                f"{result['wrong']} of {result['calls']} answers are wrong, the first: {result['first_wrong']}"
            )
        return result

    def open(self) -> None:
        """Open the streams of a load that holds them; they stay open until the end of its block."""
        self.begin()
        self._hear()

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._process.stderr.read().strip() or "the load generator ended")
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def model_server(core: int) -> Iterator[str]:
    """A server with OpenAI's streaming API, which also takes traces and throws them away; its address."""
    with subprocess.Popen(pinned(core, program(), "-model"), text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.kill()


@contextmanager
def load(call: Call, shape: Shape, targets: Sequence[str], core: int | None, **more: Any) -> Iterator[Load]:
    """A generator for this call on this core, or on all. `more` are further fields of its specification."""
    connections = shape.in_flight if call.protocol == "http1" else min(shape.connections, shape.in_flight)
    specification = {
        "targets": list(targets),
        "protocol": call.protocol,
        "path": call.path,
        "headers": dict(call.headers),
        "body": base64.b64encode(call.body).decode(),
        "connections": connections,
        "in_flight": shape.in_flight,
        "calls": shape.calls,
        "expect": [base64.b64encode(part).decode() for part in call.expect],
        "messages_min": call.messages_min,
        "stamped": call.stamped,
        "timeout_s": shape.timeout_s,
    }
    command = [program()] if core is None else pinned(core, program())
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        generator = Load(process)
        try:
            generator._tell(json.dumps(specification | more))
            generator._hear()
            yield generator
        finally:
            process.kill()

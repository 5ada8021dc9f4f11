"""A bare server of the same gRPC library, on uvloop: the yardstick of all ratios."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contenders.base import Case, Contender, Running
from bench.load.generator import Call
from bench.machine import pinned

SERVER = Path(__file__).with_name("echo_server.py")
PAYLOAD = b"\x12\x05hello"


def echo(port: int = 0) -> Contender:
    """The server, on a free port if none is given."""

    @contextmanager
    def started(directory: Path, core: int) -> Iterator[Running]:
        command = pinned(core, sys.executable, str(SERVER), str(port))
        with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                bound = int(process.stdout.readline())
                yield Running((process.pid,), (f"127.0.0.1:{bound}",))
            finally:
                process.terminate()

    return Contender("echo", started)


ECHO = echo()
ECHOED = Call("/bench.Echo/Echo", PAYLOAD, (PAYLOAD,))
UNARY = Case("echo", ECHO, lambda _: ECHOED)


def messages(count: int) -> Case:
    """A stream of so many messages, one right after the other."""
    call = Call("/bench.Echo/Stream", str(count).encode(), (b"x" * 120,), messages_min=count)
    return Case(f"echo, {count} messages", ECHO, lambda _: call)


HOLD = Call("/bench.Echo/Hold", b"", (b"x",))

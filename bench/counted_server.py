"""A server as `serve` starts it that counts what it does, on all threads and per thread without a lock.

    python bench/counted_server.py SOCKET

SOCKET is the path of a Unix socket; each connection gets the counts so far, as one JSON object, and is closed.
Counted are bytecodes and frames of all Python code, entries into and resumptions of own functions, what asyncio makes,
and commits. Counting makes the server a hundred times slower: what depends on time goes the slow way in every round,
however busy the machine is.
"""

from __future__ import annotations

import functools
import json
import socket
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import uvloop

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from bench.breadth import first_step  # noqa: E402

# Those of each thread, which that thread alone changes: an addition to a shared number might be lost.
_counts: dict[int, Counter[str]] = {}
_left_out: dict[CodeType, bool] = {}
_asked = threading.Event()
_connect = sqlite3.connect


def count(what: str) -> None:
    """Add one to a count of this thread."""
    _counts.setdefault(threading.get_ident(), Counter())[what] += 1


def trace(frame: FrameType, event: str, _: object) -> Callable[[FrameType, str, Any], Any] | None:
    """Count a frame that begins or resumes, and count its bytecodes from then on.

    Counting begins with the first connection: a start with counting would take half a minute on a busy machine.
    """
    if not _asked.is_set():
        return None
    code = frame.f_code
    left_out = _left_out.get(code)
    if left_out is None:
        left_out = _left_out[code] = code.co_filename.startswith(str(HERE))
    if left_out:
        return None
    counts = _counts.setdefault(threading.get_ident(), Counter())
    counts["frames"] += 1
    begin = first_step(code)
    if begin is not None:
        counts["entries" if frame.f_lasti <= begin else "resumptions"] += 1
    frame.f_trace_lines = False
    frame.f_trace_opcodes = True

    def each(_: FrameType, event: str, __: object) -> Any:
        if event == "opcode":
            counts["bytecodes"] += 1
        return each

    return each


class CountingLoop(uvloop.Loop):
    """Counts the tasks, futures and timers that are made, by grpc too."""

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        count("asyncio tasks")
        return super().create_task(*args, **kwargs)

    def create_future(self) -> Any:
        count("futures")
        return super().create_future()

    def call_later(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        count("timers")
        return super().call_later(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        count("timers")
        return super().call_at(*args, **kwargs)


def connect(*arguments: Any, **more: Any) -> sqlite3.Connection:
    """As sqlite3.connect, of a connection whose commits are counted."""
    connection: sqlite3.Connection = _connect(*arguments, **more)
    connection.set_trace_callback(_statement)
    return connection


def _statement(text: str) -> None:
    if text == "COMMIT":
        count("commits")


def tell(listening: socket.socket) -> None:
    """Answer each connection with the counts, on a thread that is not counted."""
    while True:
        asking, _ = listening.accept()
        _asked.set()
        with asking:
            asking.sendall(json.dumps(sum(_counts.copy().values(), Counter())).encode())


def main() -> None:
    """Serve, and count."""
    sqlite3.connect = connect  # type: ignore[assignment]
    uvloop.run = functools.partial(uvloop.run, loop_factory=CountingLoop)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[1])
    listening.listen()
    threading.Thread(target=tell, args=(listening,), daemon=True).start()
    from agent_service.cli import main as agent_service

    threading.settrace(trace)
    sys.settrace(trace)
    agent_service(["serve"])


if __name__ == "__main__":
    main()

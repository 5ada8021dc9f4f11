"""A server as `serve` starts it that counts what it does: bytecodes and frames of Python on all threads, and commits.

    python bench/counted_server.py SOCKET

SOCKET is the path of a Unix socket; whoever connects gets the counts so far, as one JSON object, and is disconnected.
Counting makes the server a hundred times slower, and changes no count of one call at a time.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

HERE = str(Path(__file__).parent)
BYTECODES, FRAMES, COMMITS = range(3)

# A list for each thread, which that thread alone changes: an addition to a shared number might be lost.
_counts: dict[int, list[int]] = {}
_left_out: dict[CodeType, bool] = {}
_connect = sqlite3.connect


def _mine() -> list[int]:
    return _counts.setdefault(threading.get_ident(), [0, 0, 0])


def trace(frame: FrameType, event: str, _: object) -> Callable[[FrameType, str, Any], Any] | None:
    """Counts a frame that begins or goes on, and makes its bytecodes counted."""
    code = frame.f_code
    left_out = _left_out.get(code)
    if left_out is None:
        left_out = _left_out[code] = code.co_filename.startswith(HERE)
    if left_out:
        return None
    counts = _mine()
    counts[FRAMES] += 1
    frame.f_trace_lines = False
    frame.f_trace_opcodes = True

    def each(_: FrameType, event: str, __: object) -> Any:
        if event == "opcode":
            counts[BYTECODES] += 1
        return each

    return each


def connect(*arguments: Any, **more: Any) -> sqlite3.Connection:
    """As sqlite3.connect, of a connection whose commits are counted."""
    connection: sqlite3.Connection = _connect(*arguments, **more)
    connection.set_trace_callback(_statement)
    return connection


def _statement(text: str) -> None:
    if text == "COMMIT":
        _mine()[COMMITS] += 1


def tell(listening: socket.socket) -> None:
    """Tell the counts to whoever asks, on a thread that is not counted."""
    while True:
        asking, _ = listening.accept()
        with asking:
            bytecodes, frames, commits = (sum(each) for each in zip(*_counts.copy().values(), strict=True))
            asking.sendall(json.dumps({"bytecodes": bytecodes, "frames": frames, "commits": commits}).encode())


def main() -> None:
    """Serve, and count."""
    sqlite3.connect = connect  # type: ignore[assignment]
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

"""Dumps of a server's activity: SIGUSR2 makes a server write one, and another process of the same user reads it.

The file is in memory and has no name: it needs no disk, ends with its process, and is found by Linux's list of each
process' open files. A process without such a file does not handle the signal, and never receives it. The first line
identifies the server.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAME = "agent-service-dump"
LINE_MAX = 4096
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class About:
    """The server of a dump. `database` is "" for a store in memory."""

    pid: int
    worker: str
    port: int
    database: str


@dataclass(frozen=True, slots=True)
class Dump:
    """The answer of a server: `threads` as faulthandler writes them, and lines as in the log. `answered` is False if
    the event loop did not answer in time, because it is blocked.
    """

    threads: str
    lines: list[dict[str, Any]]
    answered: bool


def new_dump_file(about: About) -> int | None:
    """Return a descriptor to write dumps to; None if the system has no such files."""
    if not hasattr(os, "memfd_create"):
        return None
    file = os.memfd_create(NAME)  # not inherited by other programs
    # Append, also after readers truncated the file.
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    os.write(file, json.dumps(asdict(about)).encode() + b"\n")
    return file


def servers() -> Iterator[tuple[About, Path]]:
    """Yield the servers on this machine whose files this user may read, each with the path of its file."""
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError, ValueError, TypeError):  # not a server, already gone, or of another version
            for file in (process / "fd").iterdir():
                if os.readlink(file).startswith(f"/memfd:{NAME} "):
                    with file.open("rb") as opened:
                        about = About(**json.loads(opened.readline(LINE_MAX)))
                    if about.pid == int(process.name):  # a child may have it open too, before it runs its program
                        yield about, file


def dump(about: About, path: Path, *, timeout_s: float) -> Dump:
    """Request a dump from a server and return it.

    Raises:
        OSError: it has ended, or this user may not signal it.
    """
    with closing(path.open("r+b", buffering=0)) as file:
        head = len(file.readline(LINE_MAX))
        os.ftruncate(file.fileno(), head)
        os.kill(about.pid, signal.SIGUSR2)
        until = time.monotonic() + timeout_s
        while True:
            content = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, head)
            found = _parsed(content.decode(errors="replace"))
            if found.answered or time.monotonic() > until:
                return found
            time.sleep(POLL_S)


def _parsed(text: str) -> Dump:
    threads, lines = list[str](), list[dict[str, Any]]()
    for line in text.splitlines():
        if line.startswith("{"):
            with suppress(ValueError):  # not complete yet
                lines.append(json.loads(line))
        else:
            threads.append(line)
    return Dump("\n".join(threads), lines, bool(lines) and lines[-1]["event"] == "dump")

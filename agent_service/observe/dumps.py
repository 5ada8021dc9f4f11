"""Where a server writes what it does now when SIGUSR2 asks, and how another process of the same user has it asked.

The file is in memory and has no name: it needs no disk, ends with its process, and is found by Linux's list of each
process' open files. Who has no such file does not handle the signal, and is never sent it. Its first line says which
server it is.
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
    """Which server a dump is of. `database` is "" for a store in memory."""

    pid: int
    worker: str
    port: int
    database: str


@dataclass(frozen=True, slots=True)
class Dump:
    """The answer of a server: `threads` as faulthandler writes them, and lines as in the log. `answered` is False where
    the event loop did not answer in time, because it is stuck.
    """

    threads: str
    lines: list[dict[str, Any]]
    answered: bool


def new_dump_file(about: About) -> int | None:
    """A descriptor to write dumps to; None where the system has no such files."""
    if not hasattr(os, "memfd_create"):
        return None
    file = os.memfd_create(NAME)  # not inherited by other programs
    # Behind what is there, whatever readers cut off.
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    os.write(file, json.dumps(asdict(about)).encode() + b"\n")
    return file


def servers() -> Iterator[tuple[About, Path]]:
    """The servers on this machine whose files this user may read, each with the path of its file."""
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError, ValueError, TypeError):  # not ours, gone meanwhile, or of another version
            for file in (process / "fd").iterdir():
                if os.readlink(file).startswith(f"/memfd:{NAME} "):
                    with file.open("rb") as opened:
                        about = About(**json.loads(opened.readline(LINE_MAX)))
                    if about.pid == int(process.name):  # a child may have it open too, before it runs its program
                        yield about, file


def dump(about: About, path: Path, *, timeout_s: float) -> Dump:
    """Have a server tell what it does now.

    Raises:
        OSError: it has ended, or this user may not ask it.
    """
    with closing(path.open("r+b", buffering=0)) as file:
        head = len(file.readline(LINE_MAX))
        os.ftruncate(file.fileno(), head)
        os.kill(about.pid, signal.SIGUSR2)
        until = time.monotonic() + timeout_s
        while True:
            told = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, head)
            found = _parsed(told.decode(errors="replace"))
            if found.answered or time.monotonic() > until:
                return found
            time.sleep(POLL_S)


def _parsed(text: str) -> Dump:
    threads, lines = list[str](), list[dict[str, Any]]()
    for line in text.splitlines():
        if line.startswith("{"):
            with suppress(ValueError):  # not written to its end yet
                lines.append(json.loads(line))
        else:
            threads.append(line)
    return Dump("\n".join(threads), lines, bool(lines) and lines[-1]["event"] == "dump")

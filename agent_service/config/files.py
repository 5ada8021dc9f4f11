"""Reads a small text file that an operator named, and says plainly when that cannot be done."""

from __future__ import annotations

import os
import select
import stat
import time
from functools import lru_cache
from pathlib import Path

# How long whoever fills a pipe has for it.
PIPE_S = 5.0
BYTES_MAX = 256 * 1024  # PyYAML reads about 200 KB/s: a start must not hang on a file that is none of ours


class Unusable(Exception):
    """The file does not serve its purpose; the message is one clause, such as `does not exist`."""


def read_text(path: Path) -> str:
    """The whole file, decoded from UTF-8; a byte order mark is dropped.

    Raises:
        Unusable: missing, not a file, no permission, above BYTES_MAX, not UTF-8.
    """
    check_readable(path)
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as exc:
        raise _unusable(exc) from exc
    return _decoded(data)


def read_piped_text(path: Path) -> str:
    """As `read_text`; the file may also be a named pipe, as some keepers of secrets make one, or /dev/null.

    A pipe gives its text once: what it gave is kept as long as the process runs, also where the file is read again.

    Raises:
        Unusable: as `read_text`, or nothing was written into the pipe within PIPE_S.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return read_text(path)  # which tells
    if stat.S_ISFIFO(found.st_mode):
        return _decoded(_piped(path, found.st_dev, found.st_ino))
    if stat.S_ISCHR(found.st_mode) and os.path.samestat(found, os.stat(os.devnull)):
        return ""
    return read_text(path)


@lru_cache(maxsize=8)
def _piped(path: Path, device: int, inode: int) -> bytes:
    """What is written into the pipe, until it is closed; the file is named by its place on the disk too."""
    late = time.monotonic() + PIPE_S
    data = b""
    try:
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as exc:
        raise _unusable(exc) from exc
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while len(data) <= BYTES_MAX and poll.poll(max(0.0, late - time.monotonic()) * 1000):
            more = os.read(pipe, BYTES_MAX)
            if not more:
                return data
            data += more
    except OSError as exc:
        raise _unusable(exc) from exc
    finally:
        os.close(pipe)
    if len(data) > BYTES_MAX:
        return data
    raise Unusable(f"is a pipe that was not written to its end within {PIPE_S:g} s")


def _decoded(data: bytes) -> str:
    if len(data) > BYTES_MAX:
        raise Unusable(f"is larger than {BYTES_MAX // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise Unusable(f"is not UTF-8 (line {line})") from exc


def check_readable(path: Path) -> None:
    """Looks at the file without opening it: opening a pipe would wait for its writer.

    Raises:
        Unusable: missing, not a file, no permission.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as exc:
        raise _unusable(exc) from exc
    except ValueError as exc:  # a NUL, or a lone surrogate
        raise Unusable("is not a path") from exc
    if stat.S_ISDIR(mode):
        raise Unusable("is a directory")
    if not stat.S_ISREG(mode):
        raise Unusable("is not a regular file")
    if not os.access(path, os.R_OK):
        raise Unusable("may not be read by this user")


def check_writable(path: Path) -> None:
    """Whether a database can live in this file, which need not exist yet.

    Raises:
        Unusable: a directory, no permission, no directory to be in.
    """
    try:
        if path.is_dir():
            raise Unusable("is a directory")
        # Opening a pipe would wait for its writer, and nothing but a regular file can keep what is written.
        if (special := next(filter(_is_special, beside(path)), None)) is not None:
            raise Unusable("is not a regular file" + (f": {special.name}, beside it" if special != path else ""))
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise Unusable("may not be written by this user")
        if not path.parent.is_dir():
            raise Unusable("is in a directory that does not exist")
    except OSError as exc:
        raise _unusable(exc) from exc
    except ValueError as exc:
        raise Unusable("is not a path") from exc
    if not os.access(path.parent, os.W_OK | os.X_OK):  # SQLite puts its journal beside the database
        raise Unusable("is in a directory that this user may not write to")


def beside(database: Path) -> list[Path]:
    """The file of a SQLite database, and those that SQLite puts beside it."""
    return [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _unusable(exc: OSError) -> Unusable:
    if isinstance(exc, FileNotFoundError):
        return Unusable("does not exist")
    if isinstance(exc, PermissionError):
        return Unusable("may not be read by this user")
    return Unusable(f"cannot be read ({exc.strerror})")

"""Reads a small text file named by an operator, with clear errors."""

from __future__ import annotations

import os
import select
import stat
import time
from functools import lru_cache
from pathlib import Path

from agent_service.text.files import Unusable, bounded, decoded, read_bytes, unusable

# The time within which a pipe must be written.
PIPE_S = 5.0
BYTES_MAX = 256 * 1024  # PyYAML reads about 200 KB/s: a start must not hang on an unrelated file


def read_text(path: Path) -> str:
    """Return the whole file, decoded from UTF-8, without a byte order mark.

    Raises:
        Unusable: missing, not a file, no permission, above BYTES_MAX, not UTF-8.
    """
    return decoded(read_bytes(path, BYTES_MAX))


def read_piped_text(path: Path) -> str:
    """Like `read_text`; the file may also be /dev/null or a named pipe, as some secret managers create.

    A pipe can be read only once: its text is cached for the life of the process.

    Raises:
        Unusable: as `read_text`, or nothing was written into the pipe within PIPE_S.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return read_text(path)  # which raises the error
    if stat.S_ISFIFO(found.st_mode):
        return decoded(bounded(_piped(path, found.st_dev, found.st_ino), BYTES_MAX))
    if stat.S_ISCHR(found.st_mode) and os.path.samestat(found, os.stat(os.devnull)):
        return ""
    return read_text(path)


@lru_cache(maxsize=8)
def _piped(path: Path, device: int, inode: int) -> bytes:
    """Return the bytes written into the pipe until it is closed. Device and inode are part of the cache key."""
    late = time.monotonic() + PIPE_S
    data = b""
    try:
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as exc:
        raise unusable(exc) from exc
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while len(data) <= BYTES_MAX and poll.poll(max(0.0, late - time.monotonic()) * 1000):
            more = os.read(pipe, BYTES_MAX)
            if not more:
                return data
            data += more
    except OSError as exc:
        raise unusable(exc) from exc
    finally:
        os.close(pipe)
    if len(data) > BYTES_MAX:
        return data
    raise Unusable(f"is a pipe whose writer did not close it within {PIPE_S:g} s")


def check_writable(path: Path) -> None:
    """Check that this file, which need not exist yet, can hold a database.

    Raises:
        Unusable: it is a directory, permission is missing, or its directory does not exist.
    """
    try:
        if path.is_dir():
            raise Unusable("is a directory")
        # Opening a pipe would wait for its writer, and only a regular file can store data.
        if (special := next(filter(_is_special, beside(path)), None)) is not None:
            raise Unusable("is not a regular file" + (f": {special.name}, beside it" if special != path else ""))
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise Unusable("cannot be written by this user")
        if not path.parent.is_dir():
            raise Unusable("is in a directory that does not exist")
    except OSError as exc:
        raise unusable(exc) from exc
    except ValueError as exc:
        raise Unusable("is not a path") from exc
    if not os.access(path.parent, os.W_OK | os.X_OK):  # SQLite puts its journal beside the database
        raise Unusable("is in a directory that this user cannot write to")


def beside(database: Path) -> list[Path]:
    """Return the file of a SQLite database and the files that SQLite creates beside it."""
    return [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()

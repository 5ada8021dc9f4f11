"""Reads a small text file that an operator named, and says plainly when that cannot be done."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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


def _unusable(exc: OSError) -> Unusable:
    if isinstance(exc, FileNotFoundError):
        return Unusable("does not exist")
    if isinstance(exc, PermissionError):
        return Unusable("may not be read by this user")
    return Unusable(f"cannot be read ({exc.strerror})")

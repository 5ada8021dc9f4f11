"""Reads small files named by an operator: whole, up to a maximum size, never from a pipe, which would block."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class Unusable(Exception):
    """The file cannot be used; the message is one clause, such as `does not exist`."""


def read_bytes(path: Path, bytes_max: int) -> bytes:
    """Return the content of a file.

    Raises:
        Unusable: missing, not a regular file, no permission, above bytes_max.
    """
    check_readable(path)
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as exc:
        raise unusable(exc) from exc
    return bounded(content, bytes_max)


def bounded(content: bytes, bytes_max: int) -> bytes:
    """Return the content, if it has at most `bytes_max` bytes.

    Raises:
        Unusable: it has more.
    """
    if len(content) > bytes_max:
        raise Unusable(f"is larger than {bytes_max // 1024} KiB")
    return content


def decoded(content: bytes) -> str:
    """Decode the content from UTF-8, without a byte order mark.

    Raises:
        Unusable: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise Unusable(f"is not UTF-8 (line {line})") from exc


def check_readable(path: Path) -> None:
    """Check the file without opening it.

    Raises:
        Unusable: missing, not a regular file, no permission.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as exc:
        raise unusable(exc) from exc
    except ValueError as exc:  # a NUL, or a lone surrogate
        raise Unusable("is not a path") from exc
    if stat.S_ISDIR(mode):
        raise Unusable("is a directory")
    if not stat.S_ISREG(mode):
        raise Unusable("is not a regular file")
    if not os.access(path, os.R_OK):
        raise Unusable("cannot be read by this user")


def unusable(exc: OSError) -> Unusable:
    """Convert an OSError."""
    if isinstance(exc, FileNotFoundError):
        return Unusable("does not exist")
    if isinstance(exc, PermissionError):
        return Unusable("cannot be read by this user")
    return Unusable(f"cannot be read ({exc.strerror})")

"""Reads text from standard input."""

from __future__ import annotations

import sys

import click

BYTES_MAX = 4 * 1024 * 1024  # more than any request may have


def read_stdin() -> str:
    """Return the whole text: UTF-8, or else the encoding of the system. A byte order mark is removed.

    Raises:
        click.UsageError: standard input is closed, cannot be read, is too large, or is not text.
    """
    if sys.stdin is None:
        raise click.UsageError("standard input is closed")
    try:
        content = sys.stdin.buffer.read(BYTES_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"standard input cannot be read: {error.strerror}") from None
    if len(content) > BYTES_MAX:
        raise click.UsageError(f"standard input is larger than {BYTES_MAX // 1024**2} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        first = error.start + 1
    try:
        return content.decode(sys.stdin.encoding)
    except UnicodeDecodeError:
        raise click.UsageError(f"standard input is not valid UTF-8 (byte {first})") from None

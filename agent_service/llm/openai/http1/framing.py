"""Where the body of a response ends, and what of its bytes is content (RFC 9112, section 6 and 7): pure.

h11 has validated the head before: lengths are numbers that agree, and the only transfer coding is `chunked`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

LINE_BYTES_MAX = 16 * 1024
_SIZE = re.compile(rb"0*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class FramingError(Exception):
    """The body is not framed as its head says."""


class Framing(Protocol):
    """Reads one body. `is_done`: it is complete. `rest` has the bytes after its end. `fault`: the body is broken behind
    the content that was returned last.
    """

    is_done: bool
    rest: bytes

    @property
    def fault(self) -> FramingError | None: ...

    def content(self, data: bytes) -> bytes:
        """Return the content in the next bytes of the connection.

        Raises:
            FramingError: they are no part of such a body, and there is no content before the fault.
        """

    def ends_with_connection(self) -> bool:
        """Return whether the end of the connection is the end of the body."""


def framing_of(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Framing:
    """Return the framing of the response to a request that is no HEAD; the headers' names are in lower case."""
    found = dict(headers)
    if status in (204, 304):
        return Counted(0)
    if b"transfer-encoding" in found:
        return Chunked()
    return Counted(int(found[b"content-length"])) if b"content-length" in found else Unbounded()


class Chunked:
    """A body in chunks. Extensions of chunks and trailers are ignored."""

    __slots__ = ("_ends_chunk", "_is_in_trailers", "_left", "_trailer_bytes", "fault", "is_done", "rest")

    def __init__(self) -> None:
        self.fault: FramingError | None = None
        self.is_done = False
        self.rest = b""  # until the end: the beginning of a line
        self._left = 0  # of the current chunk
        self._ends_chunk = False  # the line end after its content is missing
        self._is_in_trailers = False
        self._trailer_bytes = 0

    def content(self, data: bytes) -> bytes:
        if self.fault is not None:
            raise self.fault
        if self.rest:
            data = self.rest + data
            self.rest = b""
        found: list[bytes] = []
        try:
            self._split(data, found)
        except FramingError as fault:
            if not found:
                raise
            self.fault = fault
        return found[0] if len(found) == 1 else b"".join(found)

    def ends_with_connection(self) -> bool:
        return False

    def _split(self, data: bytes, found: list[bytes]) -> None:
        """Append the content in the next bytes to `found`, up to a fault."""
        at = 0
        while not self.is_done:
            if self._left:
                piece = data[at : at + self._left]
                found.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._ends_chunk = True
            if self._ends_chunk:
                if len(data) - at < 2:
                    self.rest = data[at:]
                    break
                if data[at : at + 2] != b"\r\n":
                    raise FramingError("a chunk is longer than its size")
                self._ends_chunk = False
                at += 2
            end = data.find(b"\r\n", at)
            if end < 0:
                self.rest = data[at:]
                if len(self.rest) > LINE_BYTES_MAX:
                    raise FramingError("a line of a chunked body is too long")
                break
            self._add_line(data[at:end])
            at = end + 2
        if self.is_done:
            self.rest = data[at:]

    def _add_line(self, line: bytes) -> None:
        if self._is_in_trailers:
            self.is_done = not line
            self._trailer_bytes += len(line)
            if self._trailer_bytes > LINE_BYTES_MAX:
                raise FramingError("the trailers are too long")
        else:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise FramingError("a chunk has no size")
            self._left = int(size[1], 16)
            self._is_in_trailers = not self._left


class Counted:
    """A body with a length."""

    __slots__ = ("_left", "is_done", "rest")
    fault = None

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_done = not length
        self.rest = b""

    def content(self, data: bytes) -> bytes:
        content, self.rest = data[: self._left], data[self._left :]
        self._left -= len(content)
        self.is_done = not self._left
        return content

    def ends_with_connection(self) -> bool:
        return False


class Unbounded:
    """A body that ends with its connection."""

    __slots__ = ("is_done", "rest")
    fault = None

    def __init__(self) -> None:
        self.is_done = False
        self.rest = b""

    def content(self, data: bytes) -> bytes:
        return data

    def ends_with_connection(self) -> bool:
        self.is_done = True
        return True

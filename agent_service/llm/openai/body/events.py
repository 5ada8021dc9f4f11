"""Splits the body of a reply into server-sent events, or reads it as one JSON document.

It depends on neither network nor time nor the meaning of the JSON. The first bytes of a body decide which of the two it
is: servers and proxies send event streams and documents with each other's content types.

Event streams are read by the WHATWG rules, with two exceptions: an event cut off by the end of the stream still counts
(some servers send no empty line after the last), and blanks and byte order marks may precede a field. `event:` names
are ignored.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

LINE_BYTES_MAX = 1024 * 1024
REPLY_BYTES_MAX = 64 * 1024 * 1024  # 300 bytes of JSON around every token: about 200,000 tokens
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CR = ord("\r")  # searching for a number takes a tenth of the time of searching for bytes
_BEFORE_FIELDS = BYTE_ORDER_MARK + b" \t"
DONE = b"[DONE]"


class BrokenReplyError(Exception):
    """The provider's reply is invalid. `words` describe the defect without text of the reply: `it is too long`."""

    def __init__(self, words: str, *, retryable: bool = True) -> None:
        super().__init__(words)
        self.words = words
        self.retryable = retryable


class NoAnswerError(BrokenReplyError):
    """The reply is complete and has neither text nor a tool call."""


class InBandError(Exception):
    """The provider reports an error in a reply that began as a success. `body` is its error, unchanged."""

    def __init__(self, body: object) -> None:
        super().__init__("the provider reports an error inside its reply")
        self.body = body


class EventReader:
    """Splits a byte stream into the data of its events. Takes pieces of any size, as the network delivers them."""

    __slots__ = ("_bytes", "_data", "_ends_in_cr", "_rest", "_rest_bytes")

    def __init__(self) -> None:
        self._bytes = 0
        self._ends_in_cr = False  # a following line feed belongs to the same line end
        self._data: list[bytes] = []  # lines of the event that is being read
        self._rest: list[bytes] = []  # pieces of the line that is being read
        self._rest_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that this piece completes.

        Raises:
            BrokenReplyError: a line or the whole body is too long.
        """
        self._bytes += len(piece)
        if self._bytes > REPLY_BYTES_MAX:
            raise too_long()
        if self._ends_in_cr or _CR in piece:
            piece = self._with_line_feeds(piece)
        lines = piece.split(b"\n")
        if self._rest and len(lines) > 1:
            lines[0] = b"".join((*self._rest, lines[0]))
            self._rest, self._rest_bytes = [], 0
        rest = lines.pop()
        if rest:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
            if self._rest_bytes > LINE_BYTES_MAX:
                raise BrokenReplyError("a line of its event stream is too long", retryable=False)
        return self._events(lines) if lines else []

    def _with_line_feeds(self, piece: bytes) -> bytes:
        if self._ends_in_cr:
            piece = piece.removeprefix(b"\n")
        self._ends_in_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def finish(self) -> list[bytes]:
        """Return the data of the event that the end of the stream cut off, if any."""
        lines = [b"".join(self._rest), b""]
        self._rest = []
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                if len(line) > LINE_BYTES_MAX:
                    raise BrokenReplyError("a line of its event stream is too long", retryable=False)
                data.append(line[5:].strip())
            elif not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
            elif line[0] in _BEFORE_FIELDS and (field := line.lstrip(_BEFORE_FIELDS)):
                events += self._events([field])
        return events


class Document:
    """A body that is one JSON document. Fed like an EventReader."""

    __slots__ = ("_body",)

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, piece: bytes) -> None:
        """Add a piece. Raises BrokenReplyError: the document is too long."""
        self._body += piece
        if len(self._body) > REPLY_BYTES_MAX:
            raise too_long()

    @property
    def data(self) -> bytes:
        return bytes(self._body)


def reader_of(head: bytes) -> EventReader | Document | None:
    """Return the reader for a body that begins with these bytes; None while more bytes are needed to decide.

    Raises:
        BrokenReplyError: it is neither an event stream nor JSON, such as a gateway's web page.
    """
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if not start:
        if len(head) > LINE_BYTES_MAX:
            raise too_long()
        return None
    if start[:1] in (b"{", b"["):
        return Document()
    if start[:1] == b"<":
        raise BrokenReplyError("it is neither an event stream nor JSON")
    return EventReader()


def parsed(data: bytes) -> Any:
    """Parse JSON text, also with extensions that Python's own library writes and others do not read: NaN, infinities,
    halves of surrogate pairs, control characters, bytes that are not UTF-8.

    Raises:
        ValueError: it is not JSON even so.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "replace"), strict=False)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def lines_of(data: bytes) -> list[bytes]:
    """Split data that is not one JSON value into the contents of its lines: events without an empty line between them,
    or JSON lines. Empty for one line, unless it contains `data:` twice.
    """
    lines = data.split(b"\n")
    if len(lines) == 1 and not data.startswith(b"data:"):
        return []
    return [line.removeprefix(b"data:").strip() for line in lines]


def values_of(document: bytes) -> list[dict[str, Any]]:
    """Return the JSON objects of a body that is no event stream: one object, a list of them, or one per line.

    Raises:
        BrokenReplyError: the body is none of these.
    """
    try:
        value = parsed(document)
    except ValueError as exc:
        try:
            value = [parsed(line) for line in lines_of(document.strip()) if line and line != DONE]
        except ValueError:
            value = []
        if not value:
            raise BrokenReplyError("it is not JSON") from exc
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, dict) for each in values):
        raise BrokenReplyError("it is not a JSON object")
    return values


def too_long() -> BrokenReplyError:
    return BrokenReplyError("it is too long", retryable=False)

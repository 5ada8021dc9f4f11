"""The content of a body, however the network cuts its bytes."""

from __future__ import annotations

import pytest

from agent_service.llm.openai.http1.framing import LINE_BYTES_MAX, Framing, FramingError, framing_of

CHUNKED = [(b"transfer-encoding", b"chunked")]
BODY = b"5\r\nhello\r\n10 ; name=value\r\n, 16 more bytes!\r\n0\r\nx-trailer: 1\r\n\r\n"
CONTENT = b"hello, 16 more bytes!"


def content(framing: Framing, *pieces: bytes) -> bytes:
    return b"".join(framing.content(piece) for piece in pieces)


@pytest.mark.parametrize("size", range(1, len(BODY) + 1))
def test_chunks_may_be_cut_anywhere(size: int) -> None:
    framing = framing_of(200, CHUNKED)
    pieces = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    for piece in pieces[:-1]:
        framing.content(piece)
        assert not framing.is_done
    assert content(framing_of(200, CHUNKED), *pieces) == CONTENT
    framing.content(pieces[-1])
    assert framing.is_done
    assert framing.rest == b""


def test_what_follows_a_body_is_not_part_of_it() -> None:
    for framing, body in (
        (framing_of(200, CHUNKED), BODY),
        (framing_of(200, [(b"content-length", b"4")]), b"four"),
        (framing_of(204, []), b""),
    ):
        framing.content(body + b"HTTP/1.1")
        assert (framing.is_done, framing.rest) == (True, b"HTTP/1.1")


def test_a_body_without_a_length_ends_with_its_connection_and_no_other_does() -> None:
    unbounded = framing_of(200, [])
    assert unbounded.content(b"all of it") == b"all of it"
    assert (unbounded.is_done, unbounded.ends_with_connection(), unbounded.is_done) == (False, True, True)
    assert not framing_of(200, CHUNKED).ends_with_connection()
    assert not framing_of(200, [(b"content-length", b"4")]).ends_with_connection()


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"hello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\n",
        b"-1\r\n",
        b"1234567890abcdef\r\n",
        b"5\r\nhello world\r\n",
        b"5\r\nhelloX",
        b"5" * (LINE_BYTES_MAX + 1),
        b"0\r\n" + b"x: y\r\n" * LINE_BYTES_MAX,
    ],
)
def test_what_is_no_chunked_body_is_refused(body: bytes) -> None:
    with pytest.raises(FramingError):
        content(framing_of(200, CHUNKED), body, b"\r\n")


@pytest.mark.parametrize("fault", [b"XX", b"\r\nno size\r\n"])
def test_what_came_before_a_fault_is_content(fault: bytes) -> None:
    framing = framing_of(200, CHUNKED)
    assert framing.content(b"0005\r\nhello" + fault) == b"hello"
    assert framing.fault is not None
    with pytest.raises(FramingError):
        framing.content(b"5\r\nhello\r\n")


def test_a_size_may_begin_with_zeros() -> None:
    assert content(framing_of(200, CHUNKED), b"0" * 30 + b"5\r\nhello\r\n", b"0" * 30 + b"\r\n\r\n") == b"hello"

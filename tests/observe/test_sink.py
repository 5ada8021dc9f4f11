"""The sink of the log: what it writes, to a pipe in place of stderr."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from agent_service.observe import sink as module
from agent_service.observe.sink import StderrSink


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_line_is_written_while_the_sink_is_open(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sink = StderrSink(writing)
    sink(b"one\n")
    assert os.read(reading, 100) == b"one\n"
    sink.close()


def test_lines_of_one_moment_are_written_together(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 3600.0)
    reading, writing = pipe
    sink = StderrSink(writing)
    for number in range(100):
        sink(b"%d\n" % number)
    sink.close()  # within CLOSE_S: it does not wait for more lines
    assert os.read(reading, 1000) == b"".join(b"%d\n" % number for number in range(100))
    assert sink.dropped == 0


def test_lines_for_a_closed_descriptor_are_dropped_and_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = StderrSink(writing)
    sink(b"one\n")
    sink(b"two\n")
    sink.close()
    assert sink.dropped == 2
    os.close(writing)

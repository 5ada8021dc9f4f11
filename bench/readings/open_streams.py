"""The private memory of a stream that has begun and stays open.

Some streams are open already when those that count are opened: what a server allocates once, however many there are, is
not part of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contenders.base import Contender, Running, measure
from bench.load.generator import Call, Shape, load
from bench.machine import cores, kill, private_kib, settled
from bench.results import Found, Reading
from bench.rounds import Pace, progress

PER_CONNECTION = 200
WARM_CALLS = 640


@dataclass(frozen=True)
class Holder:
    """A contender, a call that warms it up, and one whose stream stays open."""

    contender: Contender
    warm: Call
    hold: Call


@dataclass(frozen=True)
class OpenStreams:
    """Each contender with each number of streams, once: it varies little."""

    subjects: Sequence[Holder]
    counts: Sequence[int] = (1000, 5000)
    name: str = "open streams"

    def only(self, wanted: Sequence[str]) -> OpenStreams | None:
        """All or nothing."""
        return self if any(text in self.name for text in wanted) else None

    def measure(self, _: Pace, found: Found) -> None:
        """A new process for each, so that no stream finds memory of an earlier one."""
        for count in self.counts:
            for subject in self.subjects:
                progress(f"{self.name}: {count} of {subject.contender.name}")
                kib = _memory_of(subject, count)
                found.readings.append(Reading(self.name, label(count), subject.contender.name, "KiB each", [kib]))


def label(count: int) -> str:
    """The name of a reading of so many streams."""
    return f"{count} open"


def _memory_of(subject: Holder, count: int) -> float:
    server_core, load_core = cores()
    with (
        TemporaryDirectory(prefix="bench-") as directory,
        subject.contender.start(Path(directory), server_core) as running,
    ):
        measure(running, subject.warm, Shape(WARM_CALLS, 64), load_core)
        with _open(subject.hold, running, count // 4, load_core):
            before = private_kib(running.pids)
            with _open(subject.hold, running, count, load_core):
                kib = (private_kib(running.pids) - before) / count
                kill(running.pids)  # a stop would cancel thousands of tasks
                return kib


@contextmanager
def _open(call: Call, running: Running, count: int, core: int) -> Iterator[None]:
    shape = Shape(count, count, connections=-(-count // PER_CONNECTION))
    with load(call, shape, running.targets, core, hold=True) as generator:
        generator.open()
        settled(running.pids)
        yield

"""The time from exec to the first answer, with files in the page cache. The load connects as soon as it can."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contenders.base import Contender
from bench.load.generator import Call, Shape, load
from bench.machine import cores
from bench.results import Found, Reading
from bench.rounds import Pace, progress

FIRST_ANSWER = "first answer"


@dataclass(frozen=True)
class Cold:
    """A contender on a port, and its first call."""

    start: Callable[[int], Contender]
    call: Call


@dataclass(frozen=True)
class ColdStart:
    """Each contender is started anew in every round."""

    subjects: Sequence[Cold]
    name: str = "cold start"

    def only(self, wanted: Sequence[str]) -> ColdStart | None:
        """All or nothing."""
        return self if any(text in self.name for text in wanted) else None

    def measure(self, pace: Pace, found: Found) -> None:
        """Start each once to fill the caches, then in rounds."""
        seconds: dict[str, list[float]] = {}
        for turn in range(-1, pace.rounds):
            for offset in range(len(self.subjects)):
                subject = self.subjects[(turn + offset) % len(self.subjects)]
                progress(f"{self.name}: round {turn + 1} of {pace.rounds}")
                name, took_s = _first_answer(subject)
                if turn >= 0:
                    seconds.setdefault(name, []).append(took_s)
        for name in sorted(seconds):
            found.readings.append(Reading(self.name, FIRST_ANSWER, name, "s", seconds[name]))


def _first_answer(subject: Cold) -> tuple[str, float]:
    server_core, load_core = cores()
    port = _free_port()
    contender = subject.start(port)
    with (
        TemporaryDirectory(prefix="bench-") as directory,
        load(subject.call, Shape(1, 1), (f"127.0.0.1:{port}",), load_core, dial_after_go=True) as generator,
    ):
        generator.begin()
        with contender.start(Path(directory), server_core):
            return contender.name, float(generator.result()["seconds"])


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port

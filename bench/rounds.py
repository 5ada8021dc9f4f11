"""Interleaved rounds: every case of a group in turn, in another order each time, each with its own number of calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contenders.base import Case, Contender, Running, Sample, Work, measure
from bench.load.generator import Call, Shape
from bench.machine import cores, private_kib
from bench.results import Found, Row

# Warming up before the first round, and no longer than two rounds.
WARM_S = 0.5


@dataclass(frozen=True)
class Pace:
    """Number and length of the rounds of each row."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Group:
    """Cases that are measured beside each other. The first is the base of all ratios."""

    name: str
    cases: Sequence[Case]
    in_flight: Sequence[int] = (64,)
    # A round of a long call is longer than one of a short one.
    stretch: float = 1.0
    # Into how many each round is divided, where small differences matter.
    parts: int = 1
    # Where the contenders use the load's core too, it runs where there is room.
    load_is_pinned: bool = True

    def only(self, wanted: Sequence[str]) -> Group | None:
        """The group with the cases whose name, or whose group's name, has one of these texts; the base stays."""
        if any(text in self.name for text in wanted):
            return self
        chosen = [case for case in self.cases if any(text in case.name for text in wanted)]
        cases = [case for case in self.cases if case is self.cases[0] or case in chosen]
        return replace(self, cases=cases) if chosen else None

    def measure(self, pace: Pace, found: Found) -> None:
        """Measure every case, and add what was found."""
        for case in self.cases:
            if case.twin:
                found.twins[self.name, case.name] = case.twin
        found.rows.extend(measured(self, pace))


def measured(group: Group, pace: Pace) -> Iterator[Row]:
    """Start the contenders of a group and measure every case at every number of calls in flight.

    Raises:
        RuntimeError: a contender did not start, or answered wrongly.
    """
    server_core, load_core = cores()
    with ExitStack() as stack:
        started: dict[Contender, Running] = {}
        for case in group.cases:
            if case.contender not in started:
                directory = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
                started[case.contender] = stack.enter_context(case.contender.start(directory, server_core))
        subjects = [(case, started[case.contender], case.call(started[case.contender])) for case in group.cases]
        for in_flight in group.in_flight:
            chosen = [each for each in subjects if in_flight in (each[0].in_flight or group.in_flight)]
            rows = _at(group, chosen, in_flight, pace, load_core if group.load_is_pinned else None)
            for (case, running, _), samples in zip(chosen, rows, strict=True):
                yield Row(group.name, case.name, case.contender.name, in_flight, samples, private_kib(running.pids))


def _at(
    group: Group, subjects: Sequence[tuple[Case, Running, Call | Work]], in_flight: int, pace: Pace, core: int | None
) -> list[list[Sample]]:
    """The samples of every case, in the order of the cases."""
    seconds, rounds = pace.seconds * group.stretch / group.parts, pace.rounds * group.parts
    shapes = [_warmed(case, running, call, in_flight, seconds, core) for case, running, call in subjects]
    found: list[list[Sample]] = [[] for _ in subjects]
    for turn in range(rounds):
        for offset in range(len(subjects)):
            index = (turn + offset) % len(subjects)
            case, running, call = subjects[index]
            progress(f"{group.name}: {case.name}, {in_flight} in flight, round {turn + 1} of {rounds}")
            found[index].append(_checked(case, running, call, shapes[index], core))
    return found


def _warmed(case: Case, running: Running, call: Call | Work, in_flight: int, seconds: float, core: int | None) -> Shape:
    """Warm a case up; the calls that take as long as a round shall."""
    progress(f"warming up: {case.name}, {in_flight} in flight")

    def fitting(sample: Sample, length_s: float) -> int:
        return max(in_flight, round(sample.rate * length_s / in_flight) * in_flight)

    sample = _checked(case, running, call, Shape(max(2 * in_flight, 20), in_flight), core)
    calls = fitting(sample, min(WARM_S, 2 * seconds))
    if calls > sample.calls:
        sample = _checked(case, running, call, Shape(calls, in_flight), core)
    return Shape(fitting(sample, seconds), in_flight)


def _checked(case: Case, running: Running, call: Call | Work, shape: Shape, core: int | None) -> Sample:
    try:
        return measure(running, call, shape, core)
    except RuntimeError as error:
        raise RuntimeError(f"{case.name}, {case.contender.name}: {error}") from error


def progress(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)

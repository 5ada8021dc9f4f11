"""Results: rows of samples, their medians and spread, and ratios taken round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.contenders.base import Sample

# The share of a core that the load may use before it bounds what it measures.
LOAD_SHARE_MAX = 0.9


@dataclass(frozen=True)
class Spread:
    """A median, and the least and the most of its rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Those of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One case at one number of calls in flight."""

    group: str
    name: str
    contender: str
    in_flight: int
    samples: Sequence[Sample]
    private_kib: int

    def spread(self, read: Callable[[Sample], float]) -> Spread:
        """Of what is read from each sample."""
        return Spread.of([read(sample) for sample in self.samples])

    def ratio(self, base: Row, read: Callable[[Sample], float]) -> Spread:
        """To another row, round by round: a machine that changes its speed changes both."""
        pairs = zip(self.samples, base.samples, strict=True)
        return Spread.of([read(mine) / read(its) for mine, its in pairs])

    def as_json(self, base: Row, twin: Row | None) -> dict[str, Any]:
        """Everything about it. `twin` is the same call to another tree of this service."""
        described: dict[str, Any] = {
            "group": self.group,
            "name": self.name,
            "contender": self.contender,
            "in_flight": self.in_flight,
            "private_kib": self.private_kib,
            "rate": asdict(self.spread(rate)),
            "cpu_us": asdict(self.spread(cpu_us)),
            "voluntary_switches": asdict(self.spread(lambda sample: sample.voluntary)),
            "involuntary_switches": asdict(self.spread(lambda sample: sample.involuntary)),
            "messages": asdict(self.spread(lambda sample: sample.messages)),
            "p50_ms": asdict(self.spread(latency("p50"))),
            "p99_ms": asdict(self.spread(latency("p99"))),
            "foreign_cores": asdict(self.spread(lambda sample: sample.foreign_cores)),
            "load_share": asdict(self.spread(lambda sample: sample.load_share)),
            "base": base.name,
            "rate_ratio": asdict(self.ratio(base, rate)),
            "cpu_ratio": asdict(self.ratio(base, cpu_us)),
            "rounds": [asdict(sample) for sample in self.samples],
        }
        if twin is not None:
            described["against"] = {
                "rate_ratio": asdict(self.ratio(twin, rate)),
                "cpu_ratio": asdict(self.ratio(twin, cpu_us)),
            }
        return described


@dataclass(frozen=True)
class Reading:
    """A measurement without calls in flight, such as the memory of a stream."""

    group: str
    name: str
    contender: str
    unit: str
    values: Sequence[float]

    def as_json(self) -> dict[str, Any]:
        """Everything about it."""
        return asdict(self) | {"spread": asdict(Spread.of(self.values))}


@dataclass
class Found:
    """All measurements of one run."""

    rows: list[Row] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    # The row's place, and the name of the row of this service that it is compared with.
    twins: dict[tuple[str, str], str] = field(default_factory=dict)

    def row(self, group: str, name: str, in_flight: int) -> Row | None:
        """The row of a case, if it was measured."""
        wanted = (group, name, in_flight)
        return next((row for row in self.rows if (row.group, row.name, row.in_flight) == wanted), None)

    def base(self, row: Row) -> Row:
        """The row that this one's ratios are to: the first of its group with as many calls in flight."""
        return next(each for each in self.rows if (each.group, each.in_flight) == (row.group, row.in_flight))

    def twin(self, row: Row) -> Row | None:
        """The same call to the other tree, if there is one."""
        names = [name for (group, name), mine in self.twins.items() if (group, mine) == (row.group, row.name)]
        return self.row(row.group, names[0], row.in_flight) if names else None

    def reading(self, group: str, name: str, contender: str) -> Reading | None:
        """A reading, if it was taken."""
        wanted = (group, name, contender)
        return next((each for each in self.readings if (each.group, each.name, each.contender) == wanted), None)


def latency(name: str) -> Callable[[Sample], float]:
    """Reads a quantile of the time of a call, in ms."""
    return lambda sample: sample.latency_ms[name]


def added(name: str) -> Callable[[Sample], float]:
    """Reads a quantile of the time from the model's write to the caller's message, in ms."""
    return lambda sample: sample.stamp_ms[name]


def rate(sample: Sample) -> float:
    """Calls a second."""
    return sample.rate


def cpu_us(sample: Sample) -> float:
    """CPU of a call."""
    return sample.cpu_us

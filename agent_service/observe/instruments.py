"""Counters and histograms with children that are each written by a single thread, in the library's registry.

The library's own instruments take a lock for each number: a call and its task count twenty times, and a count there
costs at least five times what it costs here. A reader may see one number updated before another, as with any scrape.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

T = TypeVar("T")

# An exemplar: `{"trace_id": …, "span_id": …}`; empty if there is none.
Trace = Mapping[str, str]


class Count:
    """A number that only increases."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        self.value += amount


class Distribution:
    """The number of observations up to each bound."""

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: dict[int, Exemplar] = {}
        self.total = 0.0

    def observe(self, value: float, trace: Trace | None = None) -> None:
        """Add a value. `trace` becomes the exemplar of its bucket."""
        index = bisect_left(self._bounds, value)
        self.counts[index] += 1
        self.total += value
        if trace:
            self.exemplars[index] = Exemplar(dict(trace), value)


class _Family(Collector, Generic[T]):
    """One metric: a child for each combination of its labels' values, kept once it is made."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._children: dict[tuple[str, ...], T] = {}
        if not labels:
            self()  # created at once, so that it is exported as 0 before the first count
        registry.register(self)

    def __call__(self, *values: str) -> T:
        """Return the child with these labels."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {self._labels}, not {values}")
            child = self._children[values] = self._new()
        return child

    @abstractmethod
    def _new(self) -> T:
        """Return a child at 0."""

    def _rows(self) -> list[tuple[tuple[str, ...], T]]:
        """Return a snapshot of the children, because another thread may add some."""
        return list(self._children.items())


class Counts(_Family[Count]):
    """A counter. Its name ends in `_total`."""

    def _new(self) -> Count:
        return Count()

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in self._rows():
            family.add_metric(values, child.value)
        yield family


class Distributions(_Family[Distribution]):
    """A histogram with these upper bounds."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        *,
        bounds: Sequence[float],
    ) -> None:
        self._bounds = tuple(bounds)
        self._names = [*map(_float, bounds), "+Inf"]
        super().__init__(name, documentation, labels, registry)

    def _new(self) -> Distribution:
        return Distribution(self._bounds)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in self._rows():
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            so_far = 0
            for index, (name, count) in enumerate(zip(self._names, list(child.counts), strict=True)):
                so_far += count
                exemplar = child.exemplars.get(index)
                buckets.append((name, so_far, exemplar) if exemplar else (name, so_far))
            family.add_metric(values, buckets, child.total)
        yield family


def _float(bound: float) -> str:
    return str(float(bound))

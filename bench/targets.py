"""The figures that this project holds itself to, each derived from rows of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.contenders.base import Sample
from bench.plan import CALLS, CHUNK, CHUNKS, DELTAS, LATENCY, ONE_WORKER, STREAMS, TWO_WORKERS, WORKERS
from bench.readings.cold_start import FIRST_ANSWER
from bench.readings.history import RATIO
from bench.readings.open_streams import label
from bench.results import Found, Row, Spread, added, cpu_us, rate


@dataclass(frozen=True)
class Target:
    """A figure with what it must reach and what is aimed at; None where its rows were left out."""

    name: str
    must: float
    aim: float
    value: Spread | None

    @property
    def is_ratio_up(self) -> bool:
        """True where a larger value is better."""
        return self.aim > self.must

    @property
    def verdict(self) -> str:
        """`aim`, `must` or `missed`; empty without a value."""
        if self.value is None:
            return ""
        sign = 1 if self.is_ratio_up else -1
        bounds = ("aim", self.aim), ("must", self.must)
        return next((name for name, bound in bounds if sign * (self.value.median - bound) >= 0), "missed")


def targets(found: Found) -> Iterator[Target]:
    """All of them."""
    yield from _calls(found)
    yield from _streams(found)
    workers = _ratio(found, (WORKERS, TWO_WORKERS, 128), (WORKERS, ONE_WORKER, 128), rate)
    yield Target("calls/s of two processes on two cores / one", 1.6, 1.8, workers)
    cold, bare = (found.reading("cold start", FIRST_ANSWER, name) for name in ("service", "echo"))
    ratios = [mine / its for mine, its in zip(cold.values, bare.values, strict=True)] if cold and bare else []
    yield Target("exec to first completed task / bare server", 3, 2, Spread.of(ratios) if ratios else None)
    history = found.reading("history", RATIO, "service")
    yield Target("CPU of an event in a task of 1,000 / of 10", 1.2, 1.0, Spread.of(history.values) if history else None)


def _calls(found: Found) -> Iterator[Target]:
    name = "calls/s of a RunTask without tools, 64 in flight / bare echo"
    yield Target(name, 0.35, 0.6, _ratio(found, (CALLS, "RunTask", 64), (CALLS, "echo", 64), rate))
    run = _ratio(found, (CALLS, "RunTask", 64), (CALLS, "openai-agents, 0 tool calls", 64), cpu_us)
    yield Target("CPU of a RunTask / openai-agents' run in process", 1.0, 0.5, run)
    yield Target("CPU of a tool turn in a task / openai-agents' tool turn", 0.25, 0.1, _tool_turn(found))


def _streams(found: Found) -> Iterator[Target]:
    live = _ratio(found, (STREAMS, "StreamTask, 20 deltas", 16), (STREAMS, "echo, 20 messages", 16), cpu_us)
    yield Target("CPU of a StreamTask of 20 deltas 10 ms apart / bare stream of 20 messages", 2.0, 1.0, live)
    row = found.row(LATENCY, DELTAS, 100)
    for quantile, must, aim in (("p50", 3, 1), ("p99", 20, 10)):
        value = row.spread(added(quantile)) if row else None
        yield Target(f"ms from the model's write to the caller's message, 100 streams, {quantile}", must, aim, value)
    yield Target("CPU of a chunk, model to caller / the openai SDK's stream alone", 0.7, 0.4, _chunk(found))
    memory = found.reading("open streams", label(1000), "service")
    yield Target("KiB of a running, streaming task", 80, 40, Spread.of(memory.values) if memory else None)


def _tool_turn(found: Found) -> Spread | None:
    """A turn with a tool is a fifth of what five of them add."""
    names = ("RunTask", "RunTask, 5 tool calls", "openai-agents, 0 tool calls", "openai-agents, 5 tool calls")
    return _ratio_of_slopes([found.row(CALLS, name, 64) for name in names])


def _chunk(found: Found) -> Spread | None:
    """The CPU of a chunk is what a long stream costs more than a short one, divided by the chunks that it has more."""
    names = [f"{who}, {count} chunks" for who in ("StreamTask", "openai SDK") for count in CHUNKS]
    return _ratio_of_slopes([found.row(CHUNK, name, 16) for name in names])


def _ratio_of_slopes(rows: Sequence[Row | None]) -> Spread | None:
    """Of the CPU that much work of two contenders costs more than little of it: mine little, much, its little, much."""
    costs = [[sample.cpu_us for sample in row.samples] for row in rows if row is not None]
    if len(costs) < len(rows):
        return None
    return Spread.of([(much - little) / (its - less) for little, much, less, its in zip(*costs, strict=True)])


def _ratio(
    found: Found, one: tuple[str, str, int], other: tuple[str, str, int], read: Callable[[Sample], float]
) -> Spread | None:
    """Of two rows, round by round; None if one was left out."""
    mine, its = found.row(*one), found.row(*other)
    return mine.ratio(its, read) if mine and its else None

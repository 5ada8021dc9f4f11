"""A contender, started; a case, which is one kind of call to it; and a sample, which is what a round measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load.generator import Call, Shape, load
from bench.machine import Counters, counters, settled


@dataclass(frozen=True)
class Work:
    """A piece of work that a library does in process, in place of a call to a server."""

    name: str


@dataclass(frozen=True)
class Running:
    """A started contender: its processes, and where it listens or how it is asked to do its work.

    `bodies` are requests that it has made itself, where their format is known to it alone.
    """

    pids: Sequence[int]
    targets: Sequence[str] = ()
    ask: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    bodies: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """`start` starts it in a directory of its own, on a core."""

    name: str
    start: Callable[[Path, int], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Case:
    """One kind of call to a contender. `call` makes it for the started one, where it may prepare what it needs.

    `twin` is the case of this service that another tree's is compared with. `in_flight` are the numbers of calls in
    flight at which it is measured; without them it is at all of its group.
    """

    name: str
    contender: Contender
    call: Callable[[Running], Call | Work]
    twin: str = ""
    in_flight: Sequence[int] = ()


@dataclass(frozen=True)
class Sample:
    """The measurements of one round. CPU, switches and memory are the contender's, over all its threads."""

    calls: int
    rate: float
    cpu_us: float
    voluntary: float
    involuntary: float
    messages: float
    latency_ms: dict[str, float]
    first_ms: dict[str, float]
    stamp_ms: dict[str, float] = field(default_factory=dict)
    foreign_cores: float = 0.0
    load_share: float = 0.0


def measure(running: Running, call: Call | Work, shape: Shape, core: int | None) -> Sample:
    """One round. What a call leaves to be done after its answer is part of its CPU."""
    if isinstance(call, Work):
        return _worked(running, call, shape)
    with load(call, shape, running.targets, core) as generator:
        before = counters(running.pids)
        result = generator.run()
        after = counters(running.pids).since(before)
        used = settled(running.pids).since(before)
    return _sample(result, after, used)


def _worked(running: Running, work: Work, shape: Shape) -> Sample:
    assert running.ask is not None
    before = counters(running.pids)
    result = running.ask({"work": work.name, "calls": shape.calls, "in_flight": shape.in_flight})
    after = counters(running.pids).since(before)
    if result["wrong"]:
        raise RuntimeError(
            f"{result['wrong']} of {result['calls']} results are wrong, the first: {result['first_wrong']}"
        )
    return _sample(result, after, after)


def _sample(result: dict[str, Any], after: Counters, used: Counters) -> Sample:
    calls = result["calls"]
    foreign_s = after.machine_s - after.cpu_s - result["cpu_s"]
    return Sample(
        calls=calls,
        rate=calls / result["seconds"],
        cpu_us=used.cpu_s / calls * 1e6,
        voluntary=used.voluntary / calls,
        involuntary=used.involuntary / calls,
        messages=result["messages"] / calls,
        latency_ms=result["latency_ms"],
        first_ms=result["first_ms"],
        stamp_ms=result["stamp_ms"],
        foreign_cores=max(0.0, foreign_s / after.at),
        load_share=result["cpu_s"] / result["seconds"],
    )

"""The parts of a run, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.contenders import echo
from bench.contenders.base import Case, Contender, Running, Work
from bench.contenders.service import UNCOUNTED, service, traced, two_workers, with_model
from bench.contenders.service_calls import hold, model_stream, run_task, stream_cases, stream_task, unary_cases
from bench.contenders.worker import openai_sdk
from bench.load.generator import Call
from bench.peers import cases as peers
from bench.readings.cold_start import Cold, ColdStart
from bench.readings.history import History
from bench.readings.open_streams import Holder, OpenStreams
from bench.results import Found
from bench.rounds import Group, Pace

CALLS, STREAMS, WORKERS, LATENCY, CHUNK, TELEMETRY = "calls", "streams", "workers", "latency", "chunks", "telemetry"
TRANSPORTS = "transports"
ONE_WORKER, TWO_WORKERS = "RunTask, one process", "RunTask, two processes on one file"
CHUNKS = (20, 100)
SDK = openai_sdk()
DELTAS = "StreamTask, deltas of a model 50 ms apart"
AGAINST = " (against)"


class Measurement(Protocol):
    """A part of a run."""

    @property
    def name(self) -> str:
        """The name by which `--only` chooses it."""

    def only(self, wanted: Sequence[str]) -> Measurement | None:
        """The part of it that has one of these texts in its name, if any."""

    def measure(self, pace: Pace, found: Found) -> None:
        """Measure, and add what was found."""


def plan(*, against: Path | None, is_quick: bool) -> list[Measurement]:
    """Everything; a quick run leaves out what takes long however few calls there are."""
    mine = service()
    other = service("against", tree=against) if against else None
    calls, streams = [echo.UNARY, *unary_cases(mine)], [echo.messages(20), *stream_cases(mine)]
    if other is not None:
        calls += twins(unary_cases(other))
        streams += twins(stream_cases(other))
    calls += peers.call_cases()
    streams += peers.stream_cases()
    every: list[Measurement] = [
        Group(CALLS, calls, (64,) if is_quick else (1, 16, 64)),
        Group(STREAMS, streams, (16,), stretch=2.0),
        Group(WORKERS, worker_cases(mine), (128,), load_is_pinned=False),
        Group(LATENCY, delta_cases(against), (100,), stretch=2.0),
        Group(CHUNK, chunk_cases(against), (16,), stretch=2.0),
        _cold_start(against),
        OpenStreams(_holders(mine, other), (200,) if is_quick else (1000, 5000)),
    ]
    if not is_quick:
        every += [
            Group(TELEMETRY, telemetry_cases(), (16,), parts=10),
            Group(TRANSPORTS, transport_cases(run_task("hello"), "RunTask"), (1, 64)),
            Group(TRANSPORTS, transport_cases(stream_task(20), "StreamTask, 20 deltas"), (16,), stretch=2.0),
            History(),
        ]
    return every


def worker_cases(mine: Contender) -> list[Case]:
    """One process and two; neither has calls that tell them apart."""
    return [
        Case(name, contender, lambda _: run_task("hello"))
        for name, contender in ((ONE_WORKER, mine), (TWO_WORKERS, two_workers()))
    ]


def delta_cases(against: Path | None) -> list[Case]:
    """Deltas so far apart that none is merged, each with the time at which the model wrote it."""
    call = model_stream(20, 50_000, stamped=True)
    cases = [Case(DELTAS, with_model(), lambda _: call)]
    if against is not None:
        cases += twins([Case(DELTAS, with_model("against", tree=against), lambda _: call)])
    return cases


def chunk_cases(against: Path | None) -> list[Case]:
    """Streams of a model in few and in many chunks 10 ms apart: the openai package alone, and from model to caller."""
    cases = [Case(f"openai SDK, {count} chunks", SDK, partial(_work, f"{count} 10000")) for count in CHUNKS]
    services = [with_model()] if against is None else [with_model(), with_model("against", tree=against)]
    for number, contender in enumerate(services):
        mine = [Case(f"StreamTask, {count} chunks", contender, partial(_chunks, count)) for count in CHUNKS]
        cases += twins(mine) if number else mine
    return cases


def _work(name: str, _: Running) -> Work:
    return Work(name)


def _chunks(count: int, _: Running) -> Call:
    return model_stream(count, 10_000)


def telemetry_cases() -> list[Case]:
    """RunTask without metrics and traces, and with more and more of them."""
    contenders = [
        service("nothing", code=UNCOUNTED),
        service("metrics"),
        traced("metrics, traces 1 %", "0.01"),
        traced("metrics, traces 100 %", "1"),
    ]
    return [Case(f"RunTask, {each.name}", each, lambda _: run_task("hello")) for each in contenders]


def transport_cases(call: Call, name: str) -> list[Case]:
    """One call on each transport."""
    contenders = [service(each, settings={"API_TRANSPORT": each}) for each in ("aio", "loop")]
    return [Case(f"{name}, {each.name}", each, lambda _: call) for each in contenders]


def _cold_start(against: Path | None) -> ColdStart:
    first = run_task("hello")
    subjects = [
        Cold(echo.echo, echo.ECHOED),
        Cold(lambda port: service(settings={"API_PORT": str(port)}), first),
    ]
    if against is not None:
        subjects.append(Cold(lambda port: service("against", tree=against, settings={"API_PORT": str(port)}), first))
    return ColdStart(subjects)


def _holders(mine: Contender, other: Contender | None) -> list[Holder]:
    services = [Holder(each, run_task("hello"), hold()) for each in (mine, other) if each is not None]
    return [Holder(echo.ECHO, echo.ECHOED, echo.HOLD), *services]


def twins(cases: list[Case]) -> list[Case]:
    """The same calls to another tree of this service."""
    return [replace(case, name=case.name + AGAINST, twin=case.name) for case in cases]

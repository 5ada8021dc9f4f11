"""Does pieces of work as often as it is asked to. Needs Python's own library alone, so that it runs in any environment.

Prints `{"ready": true}`, then reads one JSON object a line, `{"work": NAME, "calls": N, "in_flight": K}`, and prints
what it measured in the form of the load generator.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

Piece = Callable[[], Awaitable[str]]


def serve(pieces: Mapping[str, Piece]) -> None:
    """Serve standard input. A piece of work returns what is wrong with its result, or an empty text."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            done = runner.run(_batch(pieces[asked["work"]], asked["calls"], asked["in_flight"]))
            print(json.dumps(done), flush=True)


async def _batch(piece: Piece, calls: int, in_flight: int) -> dict[str, object]:
    left = iter(range(calls))
    times: list[float] = []
    wrong: list[str] = []

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            complaint = await piece()
            times.append((time.perf_counter() - began) * 1000)
            if complaint:
                wrong.append(complaint)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    seconds = time.perf_counter() - began
    times.sort()
    points = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    quantiles = {name: times[min(len(times) - 1, int(share * len(times)))] for name, share in points}
    return {
        "calls": calls,
        "seconds": seconds,
        "messages": calls,
        "wrong": len(wrong),
        "first_wrong": wrong[0] if wrong else "",
        "latency_ms": quantiles,
        "first_ms": {},
        "stamp_ms": {},
        "cpu_s": 0.0,
    }

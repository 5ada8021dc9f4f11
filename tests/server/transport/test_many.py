"""Many calls, of every kind of end, leave nothing behind.

`TRANSPORT_CALLS` sets how many; `make test-transport` makes 100,000. They come from another process: the memory that is
measured is the server's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.server.transport.serving import Serve, echo

ROOT = Path(__file__).parents[3]
CALLS = int(os.environ.get("TRANSPORT_CALLS", "2000"))
GROWTH_MIB_MAX = 4.0
OBJECTS_MAX = 500


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


async def make(target: str, calls: int) -> dict[str, int]:
    """Let another process make them; how often each end was seen."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.server.transport.caller", target, str(calls)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    ends: dict[str, int] = json.loads(out)
    return ends


@pytest.mark.timeout(60 + CALLS / 100)
async def test_many_calls_leave_neither_objects_nor_memory(serve: Serve) -> None:
    async def stream(_: Any, context: Any) -> None:
        for _ in range(3):
            await context.write(b"x")

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "no", (("x-bin", b"\x00"),))

    async def hang(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    async with serve() as served:
        served.handlers.unary("/a/Echo", echo)
        served.handlers.stream("/a/Stream", stream)
        served.handlers.unary("/a/Refuse", refuse)
        served.handlers.unary("/a/Hang", hang)
        await make(served.target, max(CALLS // 10, 1000))  # warm
        gc.collect()
        objects, memory = len(gc.get_objects()), resident_mib()
        ends = await make(served.target, CALLS)
        gc.collect()
        grown = resident_mib() - memory
        print(f"{serve.name}: {CALLS} calls, {grown:+.2f} MiB")  # noqa: T201 - for `-s`
        assert len(gc.get_objects()) - objects < OBJECTS_MAX
        assert grown < GROWTH_MIB_MAX
    assert ends == {
        "StatusCode.ABORTED": CALLS // 10,
        "3 responses": CALLS // 10,
        "cancelled": CALLS // 10,
        "StatusCode.DEADLINE_EXCEEDED": CALLS // 10,
        "StatusCode.UNIMPLEMENTED": CALLS // 10,
        "ok": CALLS // 2,
    }

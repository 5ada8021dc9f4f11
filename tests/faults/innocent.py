"""An innocent caller, in a process of its own: it does not wait for what attackers in the tests' process compute.

    python -m tests.faults.innocent TARGET        the key in API_KEY

Calls one method after the other, on connections of its own. A line on stdin begins,
the next one ends and has the calls since told as a line of JSON, and so on; the end of stdin ends it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agent_service.client import AsyncClient, CallError
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.e2e.processes import environment

PAUSE_S = 0.005
# The store has not synced a write within a second: a machine that is busy with something else can do that too.
NOT_READY = "health: NOT_SERVING"
WRONG_TOLD_MAX = 10
# A call that takes longer is a wrong one.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Calls:
    """What became of the calls of a while."""

    count: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    # Those that were not answered as they should be.
    wrong: tuple[str, ...]

    @classmethod
    def of(cls, took_s: list[float], wrong: list[str]) -> Calls:
        """The figures of so many durations."""
        ordered = sorted(took_s) or [0.0]

        def at(part: float) -> float:
            return round(ordered[int(part * (len(ordered) - 1))] * 1000, 1)

        return cls(len(took_s), at(0.5), at(0.99), at(1), tuple(wrong))


class Innocent:
    """The caller's process, as the tests hold it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self) -> None:
        """Have it call."""
        self._say()

    async def end(self) -> Calls:
        """Have it stop; what became of its calls."""
        self._say()
        assert self._process.stdout is not None
        async with asyncio.timeout(2 * PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line, "the innocent caller ended"
        told: dict[str, Any] = json.loads(line)
        return Calls(**told | {"wrong": tuple(told["wrong"])})

    def _say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")


@asynccontextmanager
async def innocent(target: str, key: str) -> AsyncIterator[Innocent]:
    """Start one, silent; it is connected when its first calls have been told."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, target),
        env=environment(API_KEY=key),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Innocent(process)
    finally:
        process.kill()
        await process.wait()


@dataclass
class Caller:
    """The one that calls, in its own process."""

    client: AsyncClient
    took_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _is_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _is_quiet: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin_or_end(self) -> None:
        """Begin to call; or end, with no call under way, and tell of the calls since."""
        if not self._is_wanted.is_set():
            self._is_quiet.clear()
            self._is_wanted.set()
            return
        self._is_wanted.clear()
        await self._is_quiet.wait()
        calls = Calls.of(self.took_s, self.wrong[:WRONG_TOLD_MAX])
        sys.stdout.write(json.dumps(vars(calls)) + "\n")
        sys.stdout.flush()
        self.took_s.clear()
        self.wrong.clear()

    async def call(self) -> None:
        """Call for as long as it is wanted, again and again."""
        mine = await self.client.run("add 2 and 3")

        async def run() -> bool:
            task = await self.client.run("add 2 and 3")
            return (task.state, task.output) == (TASK_STATE_COMPLETED, "2 + 3 = 5")

        async def get() -> bool:
            return (await self.client.get_task(mine.id)).id == mine.id

        async def tools() -> bool:
            return len(await self.client.list_tools()) > 3

        async def health() -> bool:
            status = await self.client.health()
            if status == "NOT_SERVING":
                self.wrong.append(NOT_READY)
            return status in ("SERVING", "NOT_SERVING")

        for call in itertools.cycle((health, tools, get, run)):
            if not self._is_wanted.is_set():
                self._is_quiet.set()
                await self._is_wanted.wait()
            await self._time(call)
            await asyncio.sleep(PAUSE_S)

    async def _time(self, call: Callable[[], Awaitable[bool]]) -> None:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                if not await call():
                    self.wrong.append(f"{call.__name__}: answered something else")
        except (CallError, TimeoutError) as error:
            self.wrong.append(f"{call.__name__}: {error!r}")
        self.took_s.append(time.perf_counter() - began)


async def main(target: str, key: str) -> None:
    """Be one, until stdin ends."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncClient(target, api_key=key, patience_s=0) as client:
        caller = Caller(client)
        calling = asyncio.create_task(caller.call())
        while await lines.readline():
            await caller.begin_or_end()
        calling.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], os.environ["API_KEY"]))

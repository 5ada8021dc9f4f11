"""Callers of one tenant in a process of their own, who ask for what is costly again and again.

Their own work is then not the server's, nor that of the caller who is measured. A line `on` or `off` on standard input
begins and ends it; `ok` answers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent_service.client import AsyncClient, CallError
from agent_service.v1.task_pb2 import TASK_STATE_REJECTED

ROOT = Path(__file__).resolve().parents[2]
# What is measured has the processor before them.
NICE = 10


class HeavyCallers:
    """The process, as the test has it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """While they call."""
        await self._say("on")
        try:
            yield
        finally:
            await self._say("off")

    async def _say(self, word: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{word}\n".encode())
        assert await self._process.stdout.readline() == b"ok\n"


@asynccontextmanager
async def heavy_callers(target: str, key: str, of: str, callers: int, pause_s: float) -> AsyncIterator[HeavyCallers]:
    """Start the process; its callers are silent."""
    arguments = ("-m", "tests.e2e.heavy_callers", target, key, of, str(callers), str(pause_s))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield HeavyCallers(process)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


async def main(target: str, key: str, of: str, callers: int, pause_s: float) -> None:
    """Call until standard input ends."""
    os.nice(NICE)
    numbers = itertools.count()
    async with AsyncClient(target, api_key=key, patience_s=0) as client:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "lists": lambda: client.list_tasks(states=[TASK_STATE_REJECTED]),
            "stuck tools": lambda: client.invoke_tool("fetch", {}),
            "long journals": lambda: client.get_task("long"),
            "erasures": lambda: client.delete_task(f"acme{next(numbers)}"),
        }

        async def again_and_again() -> None:
            while True:
                with suppress(CallError):
                    await calls[of]()
                await asyncio.sleep(pause_s)

        tasks: list[asyncio.Task[None]] = []
        while word := await asyncio.to_thread(sys.stdin.readline):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            tasks = [asyncio.create_task(again_and_again()) for _ in range(callers)] if word == "on\n" else []
            print("ok", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))

"""The soak: every method, all the time, and nearly a third of the calls are left before they are answered.

    make soak                               ten minutes
    make soak ARGS='--seconds 3600'

What the server holds is looked at throughout, with nobody there: memory, tasks of its event loop and descriptors of the
last third are those of the second. The first one is to get warm.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_service.client import AsyncClient, CallError, approve
from tests.faults.abused import Abused, abused
from tests.faults.vitals import TOLERANCE, Vitals, settled

USERS = 8
LEAVES = 0.3
LOOKS = 12
# Refusals that a call may end by here: its task is another's to end, or has ended, or is gone.
ALLOWED = {"TASK_NOT_FOUND", "TASK_TERMINAL", "TASK_NOT_TERMINAL", "SESSION_NOT_FOUND", "SESSION_BUSY", "STALE_ANSWER"}


@dataclass
class Soak:
    """What the users did, and what the server held meanwhile."""

    chance: random.Random = field(default_factory=lambda: random.Random(1))
    calls: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    looks: list[Vitals] = field(default_factory=list)

    def grown(self) -> list[str]:
        """What has grown from the second third to the last one."""
        third = len(self.looks) // 3
        found = []
        for name in ("rss_mib", "asyncio_tasks", "descriptors"):
            _, second, last = (
                statistics.median(getattr(look, name) for look in self.looks[start : start + third])
                for start in (0, third, 2 * third)
            )
            if last > second * (1 + TOLERANCE):
                found.append(f"{name}: {second} and then {last}")
        return found


async def soak(directory: Path, seconds: float) -> Soak:
    """Do it."""
    found = Soak()
    async with abused(directory) as world:
        for _ in range(LOOKS):
            await _use(world, found, seconds / LOOKS)
            found.looks.append(await settled(world.server))
            world.server.log.clear()
            world.server.stderr.clear()
    return found


async def _use(world: Abused, found: Soak, seconds: float) -> None:
    """Users come, call for so long, and go: some by closing their connection in the middle of a call."""
    ends = asyncio.get_running_loop().time() + seconds

    async def user(key: str) -> None:
        while asyncio.get_running_loop().time() < ends:
            async with AsyncClient(world.victim.target, api_key=key, patience_s=0) as client:
                left: set[asyncio.Task[None]] = set()
                for _ in range(50):
                    if asyncio.get_running_loop().time() > ends:
                        break
                    await _call(client, found, left)
            await asyncio.gather(*left, return_exceptions=True)

    async with asyncio.TaskGroup() as users:
        for key in world.victim.keys[:USERS]:
            users.create_task(user(key))
    gc.collect()  # until then grpc's clients keep connections open that were closed


async def _call(client: AsyncClient, found: Soak, left: set[asyncio.Task[None]]) -> None:
    """One call, which may be left: cancelled, or still there when its connection is closed."""
    name, call = found.chance.choice(list(METHODS.items()))
    calling = asyncio.ensure_future(_outcome(name, call, client, found))
    if found.chance.random() >= LEAVES:
        await calling
        return
    found.calls["left"] += 1
    await asyncio.wait([calling], timeout=found.chance.random() * 0.01)
    if found.chance.random() < 0.5:
        calling.cancel()
        await asyncio.wait([calling])
    else:
        left.add(calling)


async def _outcome(name: str, call: Callable[[AsyncClient], Awaitable[Any]], client: AsyncClient, found: Soak) -> None:
    found.calls[name] += 1
    try:
        await call(client)
    except CallError as error:
        if error.reason not in ALLOWED and not error.is_interruption and error.code != "CANCELLED":
            found.wrong.append(f"{name}: {error!r}")


async def _run(client: AsyncClient) -> None:
    await client.run("add 2 and 3")


async def _stream(client: AsyncClient) -> None:
    async with aclosing(client.stream("What is 17.5% of 2340?")) as events:
        async for _ in events:
            pass


async def _submit(client: AsyncClient) -> str:
    return (await client.submit("add 2 and 3", session_id="a-session")).id


async def _watch(client: AsyncClient) -> None:
    async with aclosing(client.watch(await _submit(client))) as events:
        async for _ in events:
            pass


async def _get(client: AsyncClient) -> None:
    await client.get_task(await _submit(client))


async def _cancel(client: AsyncClient) -> None:
    await client.cancel(await _submit(client))


async def _resume(client: AsyncClient) -> None:
    await client.resume(await _submit(client), "an-input", approve())


async def _delete(client: AsyncClient) -> None:
    await client.delete_task((await client.run("hello")).id)


METHODS: Mapping[str, Callable[[AsyncClient], Awaitable[Any]]] = {
    "RunTask": _run,
    "StreamTask": _stream,
    "SubmitTask": _submit,
    "WatchTask": _watch,
    "GetTask": _get,
    "ListTasks": lambda client: client.list_tasks(page_size=10, full=True),
    "CancelTask": _cancel,
    "ResumeTask": _resume,
    "DeleteTask": _delete,
    "DeleteSession": lambda client: client.delete_session("a-session"),
    "ToolInvoke": lambda client: client.invoke_tool("calculator", {"expression": "2 + 3"}),
    "ListAgents": lambda client: client.list_agents(),
    "ListTools": lambda client: client.list_tools(),
    "GetUsage": lambda client: client.get_usage(),
    "Check": lambda client: client.health(),
}


async def main() -> int:
    """What the command line asks for; 1 where something grew or went wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = await soak(Path(directory), arguments.seconds)
    told = [*map(str, found.looks), str(dict(found.calls)), *found.wrong[:20], *found.grown()]
    sys.stdout.write("\n".join(told) + "\n")
    return 1 if found.wrong or found.grown() else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

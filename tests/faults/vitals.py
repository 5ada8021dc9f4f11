"""What a server's process holds: memory, tasks of its event loop, descriptors. Of Linux, which tells in /proc."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import ServerProcess

# Closing a connection, ending a call that was left and freeing what it held all take a moment.
SETTLE_S = 6.0
PAUSE_S = 0.2
ANSWER_S = 20.0
# What may be more than before.
TOLERANCE = 0.10


@dataclass(frozen=True)
class Vitals:
    """At one moment."""

    rss_mib: float
    peak_mib: float
    asyncio_tasks: int
    descriptors: int

    def grown_since(self, before: Vitals) -> list[str]:
        """What has grown by more than TOLERANCE."""
        pairs = {
            "rss_mib": (before.rss_mib, self.rss_mib),
            "asyncio_tasks": (before.asyncio_tasks, self.asyncio_tasks),
            "descriptors": (before.descriptors, self.descriptors),
        }
        return [f"{name}: {was} before, {now} now" for name, (was, now) in pairs.items() if now > was * (1 + TOLERANCE)]


async def vitals(server: ServerProcess) -> Vitals:
    """How it is now."""
    dumps = sum(line["event"] == "dump" for line in server.log)
    server.process.send_signal(signal.SIGUSR1)
    async with asyncio.timeout(ANSWER_S):
        dump = await server.logged("dump", dumps + 1)
    of_process = Path(f"/proc/{server.process.pid}")
    status = dict(line.split(":", 1) for line in (of_process / "status").read_text().splitlines())
    rss, peak = (round(int(status[name].split()[0]) / 1024, 1) for name in ("VmRSS", "VmHWM"))
    return Vitals(rss, peak, dump["asyncio_tasks"], len(os.listdir(of_process / "fd")))


def forget_peak(server: ServerProcess) -> None:
    """From now on `peak_mib` is the most since now."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


async def settled(server: ServerProcess, before: Vitals | None = None) -> Vitals:
    """How it is once it holds no more than `before`, or as long as it takes to doubt that it ever will; without
    `before`, once it has stopped becoming less.
    """
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    now = await vitals(server)
    while asyncio.get_running_loop().time() < deadline:
        if before is not None and not now.grown_since(before):
            return now
        last = now
        await asyncio.sleep(PAUSE_S)
        now = await vitals(server)
        if before is None and (now.asyncio_tasks, now.descriptors) >= (last.asyncio_tasks, last.descriptors):
            return now
    return now

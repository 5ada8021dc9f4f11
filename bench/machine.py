"""Cores of this machine, and counters of processes out of /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SETTLED_S = 0.03
SETTLE_MAX_S = 30.0
# CPU of a server without calls, as a share of a core.
IDLE_SHARE = 0.05


def cores() -> tuple[int, int]:
    """The core of the servers and that of the load: the first two that may be used; the same if there is one alone."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def pinned(core: int, *command: str) -> list[str]:
    """The command, to be run on one core."""
    return ["taskset", "-c", str(core), *command]


@dataclass(frozen=True)
class Counters:
    """Sums over all threads of some processes, and the busy time of the machine, at one moment."""

    at: float
    cpu_s: float
    voluntary: int
    involuntary: int
    machine_s: float

    def since(self, before: Counters) -> Counters:
        """The differences."""
        return Counters(
            self.at - before.at,
            self.cpu_s - before.cpu_s,
            self.voluntary - before.voluntary,
            self.involuntary - before.involuntary,
            self.machine_s - before.machine_s,
        )


def counters(pids: Iterable[int]) -> Counters:
    """Read them. A thread that ends between two readings is lost with its share."""
    cpu_ns = voluntary = involuntary = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                cpu_ns += int((task / "schedstat").read_text().split()[0])
                status = (task / "status").read_text()
            except OSError:
                continue  # it ended meanwhile
            voluntary += _number(status, "voluntary_ctxt_switches:")
            involuntary += _number(status, "nonvoluntary_ctxt_switches:")
    return Counters(time.monotonic(), cpu_ns / 1e9, voluntary, involuntary, _machine_s())


def settled(pids: Iterable[int]) -> Counters:
    """The counters once the processes do nothing more.

    Raises:
        RuntimeError: they still work after SETTLE_MAX_S.
    """
    ends = time.monotonic() + SETTLE_MAX_S
    seen = counters(pids)
    while time.monotonic() < ends:
        time.sleep(SETTLED_S)
        now = counters(pids)
        if now.cpu_s - seen.cpu_s < IDLE_SHARE * (now.at - seen.at):
            return now
        seen = now
    raise RuntimeError(f"a server without calls is still busy after {SETTLE_MAX_S:g} s")


def kill(pids: Iterable[int]) -> None:
    """End them at once, without the work of a stop, and wait for it; who started them still learns how they ended."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def private_kib(pids: Iterable[int]) -> int:
    """Memory that these processes alone have."""
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += _number(rollup, "\nPrivate_Dirty:") + _number(rollup, "\nPrivate_Clean:")
    return total


def _number(text: str, name: str) -> int:
    """The number behind a name; that of `voluntary` also ends `nonvoluntary`, hence the line break."""
    wanted = name if name.startswith("\n") else f"\n{name}"
    return int(text[text.index(wanted) + len(wanted) :].split(maxsplit=1)[0])


def _machine_s() -> float:
    """Busy time of all cores: user, nice, system, interrupts."""
    user, nice, system, _, _, irq, softirq = (int(field) for field in Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

"""What the limiter costs: CPU for a reservation with its settlement, bytes for a tenant, and what idle tenants leave.

    make bench-limiter

Three rules that all match, each with a counter per tenant, for calls, model calls and tokens. A reservation is one
model call with 1500 tokens, settled at 900, of tenants that take turns. "one" are tenants with a single charge in their
windows, "all" are tenants whose every window is as full as it can be. Nothing is simulated but the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from agent_service.limits.base import Charge, Rule, Stage, Subject
from agent_service.limits.memory import MemoryLimiter

RULES = [
    Rule("default", calls_max=10**9, model_calls_max=10**9, tokens_max=10**12),
    Rule("hour", calls_max=10**9, tokens_max=10**12, window_s=3600),
    Rule("models", per=frozenset({"tenant", "model"}), model_calls_max=10**9, tokens_max=10**12),
]
FULL_CHARGES = 2000
FULL_TENANTS = 500


class Clock:
    """Goes on by `step_s` whenever it is read."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s = 1000.0, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def charges_of(tenants: int) -> list[Charge]:
    subjects = [Subject(f"tenant-{number:06}", "assistant", "smart") for number in range(tenants)]
    return [Charge(subject, Stage.ALL, model_calls=1, tokens=1500) for subject in subjects]


def rss_bytes() -> int:
    """What the process has of the machine's memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pairs(limiter: MemoryLimiter, charges: list[Charge], count: int) -> float:
    """µs of CPU for a reservation and its settlement, straight."""
    began = time.process_time()
    for number in range(count):
        limiter.settle_now(limiter.reserve_now(charges[number % len(charges)]), tokens=900)
    return (time.process_time() - began) / count * 1e6


def awaited(limiter: MemoryLimiter, charges: list[Charge], count: int) -> float:
    """The same through the port's coroutines."""

    async def run() -> float:
        began = time.process_time()
        for number in range(count):
            reservation = await limiter.reserve(charges[number % len(charges)])
            await limiter.settle(reservation, tokens=900)
        return (time.process_time() - began) / count * 1e6

    return asyncio.run(run())


def cost(tenants: int, count: int, rounds: int, measure: Callable[[MemoryLimiter, list[Charge], int], float]) -> str:
    # At this rate a minute's window holds what 1,000 reservations a second leave in it.
    limiter, charges = MemoryLimiter(RULES, Clock(0.0005)), charges_of(tenants)
    measure(limiter, charges, max(tenants, count // 2))
    found = [measure(limiter, charges, count) for _ in range(rounds)]
    return f"{statistics.median(found):5.2f} us (best {min(found):.2f})"


def memory(tenants: int, charges_each: int) -> None:
    clock = Clock(0.0)
    charges = charges_of(tenants)
    before = rss_bytes()
    limiter = MemoryLimiter(RULES, clock)
    for _ in range(charges_each):
        clock.now += 3600 / charges_each
        for charge in charges:
            limiter.settle_now(limiter.reserve_now(charge), tokens=900)
    full, held = rss_bytes() - before, limiter.held()
    clock.now += 7200
    served = 0
    while limiter.held().windows > 100:
        for _ in range(1000):
            clock.now += 1
            limiter.reserve_now(charges[0])
        served += 1000
    idle = rss_bytes() - before
    print(
        f"  {tenants:>7,} tenants, {held.entries / tenants:6.1f} entries each: {full / tenants:8,.0f} bytes a tenant,"
        f" {full / 2**20:5.0f} MiB in all; idle for two hours and {served:,} reservations later {idle / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print("reserve and settle, 3 rules:")
    for tenants in (1, 1_000, 100_000):
        straight = cost(tenants, given.count, given.rounds, pairs)
        through = cost(tenants, given.count, given.rounds, awaited)
        print(f"  {tenants:>7,} tenants: {straight} straight, {through} through the port")
    print("memory, 3 rules:")
    memory(100_000, 1)
    memory(FULL_TENANTS, FULL_CHARGES)

"""How long appends wait while old tasks are erased: without, beside the service's own erasing, beside `tasks prune`.

    .venv/bin/python bench/retention.py --tasks 20000

Sixteen writers append to journals of their own, each as soon as its last append is durable, on a store in a file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent_service.engine.sweeps.retention import ERASE_PAUSE_S, ERASED_AT_ONCE
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.v1.task_event_pb2 import TaskEvent

WRITERS = 16
ALONE_S = 10.0
TEXT = "What a model writes, again and again. " * 20


def event(arm: str, task_id: str, attempt: int, *, age_s: float = 0.0) -> TaskEvent:
    made = TaskEvent(task_id=task_id, attempt=attempt)
    made.create_time.FromNanoseconds(int((time.time() - age_s) * 1e9))
    getattr(made, arm).SetInParent()
    if arm == "submitted":
        made.submitted.tenant, made.submitted.agent, made.submitted.task = "acme", "assistant", TEXT
        made.submitted.labels["env"] = "bench"
    elif arm == "model_replied":
        made.model_replied.text = TEXT
    return made


async def fill(store: SqliteStore, tasks: int) -> None:
    """Finished tasks of long ago, each with two turns and a tool call."""
    old_s = 100 * 86_400.0
    arms = ["model_started", "model_replied", "tool_started", "tool_finished", "model_started", "model_replied"]
    for start in range(0, tasks, 500):
        journals = []
        for number in range(start, min(start + 500, tasks)):
            name = f"old-{number}"
            journal = [event("submitted", name, 0, age_s=old_s), event("attempt_started", name, 1, age_s=old_s)]
            journal += [event(arm, name, 1, age_s=old_s) for arm in (*arms, "completed")]
            journals.append(store.append(journal, attempt=0))
        await asyncio.gather(*journals)


async def write(store: SqliteStore, name: str, waits_ms: list[float], stop: asyncio.Event) -> None:
    await store.append([event("submitted", name, 0), event("attempt_started", name, 1)], attempt=0)
    while not stop.is_set():
        began = time.perf_counter()
        await store.append([event("model_replied", name, 1)], attempt=1)
        waits_ms.append((time.perf_counter() - began) * 1000)


async def measured(store: SqliteStore, label: str, work: Callable[[], Awaitable[object]]) -> None:
    """Append while that is done, and tell how long appends took."""
    waits_ms: list[float] = []
    stop = asyncio.Event()
    writers = [asyncio.ensure_future(write(store, f"{label}-{n}", waits_ms, stop)) for n in range(WRITERS)]
    began = time.perf_counter()
    told = await work()
    took_s = time.perf_counter() - began
    stop.set()
    await asyncio.gather(*writers)
    waits_ms.sort()
    points = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    figures = "  ".join(f"{name} {waits_ms[int(len(waits_ms) * share)]:7.1f} ms" for name, share in points.items())
    figures += f"  worst {waits_ms[-1]:7.1f} ms  {told or ''}"
    print(f"{label:28} {took_s:6.1f} s  {len(waits_ms):7} appends  {figures}")


async def erase_as_service(store: SqliteStore) -> str:
    erased, some = 0, ERASED_AT_ONCE
    while some == ERASED_AT_ONCE:
        some = await store.erase_finished(int((time.time() - 86_400) * 1e6), limit=ERASED_AT_ONCE)
        erased += some
        await asyncio.sleep(ERASE_PAUSE_S)
    return f"{erased} tasks erased"


async def prune(path: Path) -> str:
    command = (sys.executable, "-m", "agent_service", "tasks", "prune", "--older-than", "1")
    env = os.environ | {"DATABASE_URL": f"sqlite:///{path}"}
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode().strip().partition(";")[0] or f"prune ended with {process.returncode}"


async def measure(path: Path, tasks: int) -> None:
    async with SqliteStore(path) as store:
        await fill(store, tasks)
        await measured(store, "nothing is erased", lambda: asyncio.sleep(ALONE_S))
        await measured(store, "the service erases", lambda: erase_as_service(store))
        await fill(store, tasks)
        await measured(store, "`tasks prune` beside it", lambda: prune(path))


def main() -> None:
    parser = argparse.ArgumentParser(description="How long appends wait while old tasks are erased.")
    parser.add_argument("--tasks", type=int, default=20_000)
    tasks = parser.parse_args().tasks
    # Here rather than where temporary files are: that may be in memory.
    with tempfile.TemporaryDirectory(dir=".") as directory:
        asyncio.run(measure(Path(directory).resolve() / "bench.db", tasks))


if __name__ == "__main__":
    main()

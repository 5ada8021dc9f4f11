"""1,000 streams at once on one process: none lost, order kept, memory bounded."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from agent_service.client import AsyncClient
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.e2e.processes import KEY, ServerProcess, server_process

STREAMS = 1000
STREAMS_PER_CONNECTION = 100
# What a running, streaming task may hold, in KiB; measured: 44, the client's side not counted.
MEMORY_KIB_MAX = 120

CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default}
"""
SCRIPT = """
- match: .*
  turns:
    - text: one two three four five six seven eight nine ten
      delay_s: 6
      chunk_delay_s: 0.01
"""


def resident_kib(server: ServerProcess) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def test_1000_open_streams_lose_nothing_keep_their_order_and_stay_small(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    limits = {"RATE_LIMIT_CALLS": "100000", "RATE_LIMIT_TOKENS": "100000000", "TASKS_RUNNING_MAX": "2000"}
    limits["LLM_PROVIDER"] = ""
    async with server_process(tmp_path, **limits) as server, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(server.target, api_key=KEY))
            for _ in range(STREAMS // STREAMS_PER_CONNECTION)
        ]
        await asyncio.gather(*(client.list_tools() for client in clients))
        before = resident_kib(server)
        waiting = asyncio.Semaphore(0)

        async def follow(client: AsyncClient) -> list[TaskEvent]:
            events = []
            async for event in client.stream("go"):
                events.append(event)
                if event.HasField("model_started"):
                    waiting.release()
            return events

        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(follow(clients[index % len(clients)])) for index in range(STREAMS)]
            for _ in range(STREAMS):
                await waiting.acquire()
            each_kib = (resident_kib(server) - before) / STREAMS
        print(f"{STREAMS} open streams: {each_kib:.1f} KiB each")  # noqa: T201 - the figure is what is wanted
    for stream in streams:
        check(stream.result())
    assert each_kib < MEMORY_KIB_MAX


def check(events: list[TaskEvent]) -> None:
    """Every journaled event once and in order, the text whole, the end there."""
    sequences = [event.sequence for event in events if not event.HasField("text_delta")]
    assert sequences == list(range(1, len(sequences) + 1))
    text = ""
    for event in events:
        if event.HasField("text_delta"):
            assert event.text_delta.offset == len(text)
            text += event.text_delta.text
    assert text == events[-1].completed.output == "one two three four five six seven eight nine ten"

"""A server that is told to stop under load, and the Python clients that go on with the next one."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from agent_service.client import AsyncClient, Client
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_CANCELED, TASK_STATE_COMPLETED
from tests.e2e.processes import KEY, server_process
from tests.faults.killing import free_port

STREAMS = 50
CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default, tools: [echo]}
"""
SCRIPT = """
- match: .*
  turns:
    - {tool_calls: [{name: echo, arguments: {text: a}}]}
    - text: one two three four five six seven eight nine ten
      chunk_delay_s: 0.4
"""


def settings(directory: Path, port: int) -> dict[str, str]:
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "script.yaml").write_text(SCRIPT)
    more = {"API_PORT": str(port), "LLM_PROVIDER": "", "DRAIN_GRACE": "0.2", "METRICS_ENABLED": "false"}
    return more | {"RATE_LIMIT_CALLS": "100000", "RATE_LIMIT_TOKENS": "100000000"}


def journaled(events: list[TaskEvent]) -> list[int]:
    return [event.sequence for event in events if not (event.HasField("text_delta") or event.HasField("heartbeat"))]


async def test_50_streams_go_on_at_the_restarted_server_and_see_each_event_once(tmp_path: Path) -> None:
    port = free_port()
    started = asyncio.Semaphore(0)
    restart = settings(tmp_path, port)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(f"127.0.0.1:{port}", api_key=KEY))

        async def follow() -> list[TaskEvent]:
            seen: list[TaskEvent] = []
            async with aclosing(client.stream("go")) as events:
                async for event in events:
                    if event.HasField("text_delta") and event.attempt == 1 and event.text_delta.offset == 0:
                        started.release()
                    seen.append(event)
            return seen

        async with asyncio.TaskGroup() as group:
            async with server_process(tmp_path, **restart) as server:
                streams = [group.create_task(follow()) for _ in range(STREAMS)]
                unary = group.create_task(client.run("go"))
                invoked = group.create_task(client.invoke_tool("echo", {"text": "here"}))
                for _ in range(STREAMS):
                    await started.acquire()
                server.process.send_signal(signal.SIGTERM)
                assert await server.process.wait() == 0
            async with server_process(tmp_path, **restart):
                followed = await asyncio.gather(*streams)
                task = await unary
                assert (await invoked).output.string_value == "here"
                stored = [await client.get_task(events[0].task_id) for events in followed]
    for events, folded in zip(followed, stored, strict=True):
        assert journaled(events) == list(range(1, folded.last_sequence + 1))
        assert events[-1].completed.output == folded.output == "one two three four five six seven eight nine ten"
        assert folded.attempt == 2
    assert len({events[0].task_id for events in followed}) == STREAMS
    assert task.state == TASK_STATE_COMPLETED


async def test_the_blocking_client_goes_on_too(tmp_path: Path) -> None:
    port = free_port()
    restart = settings(tmp_path, port)
    with Client(f"127.0.0.1:{port}", api_key=KEY) as client:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def follow() -> list[TaskEvent]:
            seen = []
            for event in client.stream("go"):
                if event.HasField("text_delta"):
                    loop.call_soon_threadsafe(begun.set)
                seen.append(event)
            return seen

        async with server_process(tmp_path, **restart) as server:
            stream = asyncio.create_task(asyncio.to_thread(follow))
            unary = asyncio.create_task(asyncio.to_thread(client.run, "go"))
            await begun.wait()
            server.process.send_signal(signal.SIGTERM)
            assert await server.process.wait() == 0
        async with server_process(tmp_path, **restart):
            events = await stream
            assert (await unary).state == TASK_STATE_COMPLETED
            watched = await asyncio.to_thread(lambda: list(client.watch(events[0].task_id)))
            assert await asyncio.to_thread(client.list_tools)
            other = await asyncio.to_thread(client.submit, "go")
            assert (await asyncio.to_thread(client.cancel, other.id)).state == TASK_STATE_CANCELED
    assert journaled(events) == journaled(watched) == list(range(1, events[-1].sequence + 1))
    assert events[-1].HasField("completed")


async def test_watching_and_commands_find_the_next_server(tmp_path: Path) -> None:
    port = free_port()
    restart = settings(tmp_path, port)
    async with AsyncClient(f"127.0.0.1:{port}", api_key=KEY) as client:
        async with server_process(tmp_path, **restart) as server:
            task = await client.submit("go")
            watching = asyncio.create_task(collected(client, task.id))
            doomed = await client.submit("go")
            server.process.send_signal(signal.SIGTERM)
            assert await server.process.wait() == 0
            # Nobody listens here now.
            canceling = asyncio.create_task(client.cancel(doomed.id))
            reading = asyncio.create_task(client.get_task(task.id))
        async with server_process(tmp_path, **restart):
            assert (await canceling).state in (TASK_STATE_CANCELED, TASK_STATE_COMPLETED)
            assert (await reading).id == task.id
            events = await watching
    assert events[-1].HasField("completed")
    assert journaled(events) == list(range(1, events[-1].sequence + 1))


async def collected(client: AsyncClient, task_id: str) -> list[TaskEvent]:
    async with aclosing(client.watch(task_id)) as events:
        return [event async for event in events]

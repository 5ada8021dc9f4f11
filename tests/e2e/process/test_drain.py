"""A server that is told to stop in the middle of its callers' work, and the Python client that sees nothing of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, Client, reply
from agent_service.client.following import is_journaled
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_DRAIN, TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_CANCELED, TASK_STATE_COMPLETED, TASK_STATE_INPUT_REQUIRED
from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.fakes.ports import free_port

STREAMS = 50
PATIENCE_S = 60.0
CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default, tools: [look]}
  asker: {model: default, class: "drain_tools:Asker"}
tools:
  modules: [drain_tools]
"""
SCRIPT = """
- match: work
  turns:
    - {tool_calls: [{name: look, arguments: {seconds: 0.01}}], delay_s: 0.01}
    - {text: one two three four five six seven eight nine ten, chunk_delay_s: CHUNK_DELAY}
- match: wait
  turns:
    - {text: at last, delay_s: 600}
- match: .*
  turns:
    - {text: answered}
"""
TOOLS = '''
import asyncio

from agent_service.agents.base import Action, AgentState, AskModel, Complete, RequireInput
from agent_service.llm.base import Role
from agent_service.tools.decorator import tool


@tool(side_effect="read_only", timeout_s=60)
async def look(seconds: float) -> str:
    """Looks for so long."""
    await asyncio.sleep(seconds)
    return "seen"


class Asker:
    """Asks its caller once, then its model."""

    def step(self, state: AgentState) -> Action:
        if state.messages[-1].role is Role.ASSISTANT:
            return Complete(state.messages[-1].text)
        users = [message for message in state.messages if message.role is Role.USER]
        return AskModel(state.messages) if len(users) > 1 else RequireInput("which one?")
'''


@dataclass
class Address:
    """A port that one server after the other has."""

    directory: Path
    port: int = field(default_factory=free_port)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @asynccontextmanager
    async def server(self, *, slow: bool = False) -> AsyncIterator[ServerProcess]:
        """Where it is `slow`, work does not come to its end."""
        (self.directory / "script.yaml").write_text(SCRIPT.replace("CHUNK_DELAY", "600" if slow else "0"))
        settings = {
            "API_PORT": str(self.port),
            "DRAIN_GRACE": "0.1",
            "LLM_PROVIDER": "",
            "PYTHONPATH": str(self.directory),
            "METRICS_ENABLED": "false",
            "RATE_LIMIT_CALLS": "100000",
            "RATE_LIMIT_TOKENS": "100000000",
        }
        async with server_process(self.directory, **settings) as running:
            yield running


@pytest.fixture
def address(tmp_path: Path) -> Address:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "drain_tools.py").write_text(TOOLS)
    return Address(tmp_path)


async def stopped(server: ServerProcess) -> None:
    """Told to, it lets go of what runs and ends well."""
    server.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await server.process.wait() == 0


class Streams:
    """What the callers of streams have seen."""

    def __init__(self) -> None:
        self.seen: list[list[TaskEvent]] = []
        self._writing = asyncio.Semaphore(0)

    def begin(self) -> Callable[[TaskEvent], None]:
        """A new caller; it tells every event that it sees."""
        mine: list[TaskEvent] = []
        self.seen.append(mine)

        def saw(event: TaskEvent) -> None:
            mine.append(event)
            # In the middle: behind a tool call, while the model writes.
            if event.HasField("text_delta") and sum(one.HasField("text_delta") for one in mine) == 1:
                self._writing.release()

        return saw

    async def are_writing(self) -> None:
        async with asyncio.timeout(60):
            for _ in range(STREAMS):
                await self._writing.acquire()

    async def are_whole(self, client: AsyncClient) -> None:
        """Every journaled event once, in order, as the journal has it; each task done, by two attempts."""
        assert len(self.seen) == STREAMS
        assert len({events[0].task_id for events in self.seen}) == STREAMS
        for events in self.seen:
            journaled = [event for event in events if is_journaled(event)]
            assert [event.sequence for event in journaled] == list(range(1, len(journaled) + 1))
            assert journaled == [event async for event in client.watch(events[0].task_id)]
            assert journaled[-1].completed.output == "one two three four five six seven eight nine ten"
            (left,) = [event.attempt_ended.cause for event in journaled if event.HasField("attempt_ended")]
            assert (left, journaled[-1].attempt) == (ATTEMPT_END_CAUSE_DRAIN, 2)
            assert sum(event.HasField("tool_finished") for event in journaled) == 1


async def test_50_streams_of_the_async_client_go_on_at_the_restarted_server(address: Address) -> None:
    streams = Streams()

    async def follow(client: AsyncClient) -> None:
        saw = streams.begin()
        async for event in client.stream("work", timeout_s=120):
            saw(event)

    async with AsyncClient(address.target, api_key=KEY, patience_s=PATIENCE_S) as client:
        async with address.server(slow=True) as first:
            following = asyncio.gather(*(follow(client) for _ in range(STREAMS)))
            await streams.are_writing()
            await stopped(first)
        async with address.server():
            await following
            await streams.are_whole(client)


async def test_50_streams_of_the_sync_client_go_on_at_the_restarted_server(address: Address) -> None:
    streams, loop = Streams(), asyncio.get_running_loop()

    def follow(client: Client, saw: Callable[[TaskEvent], None]) -> None:
        for event in client.stream("work", timeout_s=120):
            loop.call_soon_threadsafe(saw, event)

    with ThreadPoolExecutor(STREAMS) as threads:
        client = await asyncio.to_thread(Client, address.target, api_key=KEY, patience_s=PATIENCE_S)
        async with address.server(slow=True) as first:
            callers = [loop.run_in_executor(threads, follow, client, streams.begin()) for _ in range(STREAMS)]
            await streams.are_writing()
            await stopped(first)
        async with address.server(), AsyncClient(address.target, api_key=KEY) as looking:
            await asyncio.gather(*callers)
            await streams.are_whole(looking)
            await asyncio.to_thread(client.close)


async def begun(client: AsyncClient, count: int) -> None:
    """Wait until so many tasks are at work."""
    async with asyncio.timeout(60):
        while sum(task.attempt > 0 for task in (await client.list_tasks()).tasks) < count:  # noqa: ASYNC110 - as users do
            await asyncio.sleep(0.02)


async def test_calls_that_wait_get_their_answer_from_the_restarted_server(address: Address) -> None:
    async with AsyncClient(address.target, api_key=KEY, patience_s=PATIENCE_S) as client:
        async with address.server(slow=True) as first:
            ran = asyncio.ensure_future(client.run("work", timeout_s=120))
            invoked = asyncio.ensure_future(client.invoke_tool("look", {"seconds": 1}))
            submitted = await client.submit("work", timeout_s=120)
            watching = client.watch(submitted.id)
            seen = await anext(watching)  # from then on the server watches
            watched = asyncio.ensure_future(_all(watching))
            await begun(client, 3)
            await stopped(first)
            assert not any(call.done() for call in (ran, invoked, watched))
        async with address.server():
            task, tool, events = await ran, await invoked, await watched
            assert (task.state, task.attempt) == (TASK_STATE_COMPLETED, 2)
            assert tool.output.string_value == "seen"
            journaled = [event for event in (seen, *events) if is_journaled(event)]
            assert [event.sequence for event in journaled] == list(range(1, len(journaled) + 1))
            assert journaled[-1].HasField("completed")


async def _all(events: AsyncIterator[TaskEvent]) -> Sequence[TaskEvent]:
    return [event async for event in events]


async def test_calls_made_while_the_server_is_away_are_made_when_it_is_back(address: Address) -> None:
    async with AsyncClient(address.target, api_key=KEY, patience_s=PATIENCE_S) as client:
        async with address.server(slow=True) as first:
            doomed = await client.submit("wait")
            asking = await client.run("hello", agent="asker")
            assert asking.state == TASK_STATE_INPUT_REQUIRED
            await begun(client, 2)
            await stopped(first)
        away: Sequence[asyncio.Future[object]] = [
            asyncio.ensure_future(call)
            for call in (
                client.cancel(doomed.id),
                client.resume(asking.id, asking.pending_inputs[0].input_id, reply("the red one")),
                client.submit("hello"),
                client.run("hello"),
                client.get_task(doomed.id),
                client.list_tasks(),
                client.list_tools(),
            )
        ]
        async with address.server():
            await asyncio.gather(*away)
            async with asyncio.timeout(30):
                assert (await _all(client.watch(asking.id)))[-1].completed.output == "answered"
            assert (await client.get_task(doomed.id)).state == TASK_STATE_CANCELED
            # Each did what it does once.
            assert len((await client.list_tasks()).tasks) == 4


async def test_in_a_rolling_restart_callers_move_on_to_the_server_that_is_up(address: Address) -> None:
    other = Address(address.directory)
    both = f"ipv4:{address.target},{other.target}"
    async with (
        AsyncClient(both, api_key=KEY, patience_s=PATIENCE_S) as client,
        address.server(slow=True) as old,
    ):
        calls: list[Awaitable[TaskEvent]] = [_last(client.stream("work", timeout_s=120)) for _ in range(5)]
        ends = asyncio.gather(*calls)
        await begun(client, 5)
        async with other.server():
            await stopped(old)
            assert {(end.HasField("completed"), end.attempt) for end in await ends} == {(True, 2)}


async def _last(events: AsyncIterator[TaskEvent]) -> TaskEvent:
    return (await _all(events))[-1]

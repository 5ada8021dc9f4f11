"""The asyncio client: its connections, and a network that swallows what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from agent_service.client import AsyncClient, CallError, Client, channel
from agent_service.v1.task_pb2 import CANCEL_CAUSE_USER, TASK_STATE_CANCELED
from tests.fakes.store import FakeStore
from tests.harness import KEY, FakeModel, Parts, started
from tests.service.worlds import Gate

CALLS_AT_ONCE = 250


async def test_a_cancel_does_not_stand_in_line_behind_calls_that_wait_for_tasks() -> None:
    gate = Gate()
    async with (
        started(Parts(model=FakeModel(gate.step))) as running,
        AsyncClient(running.target, api_key=KEY, patience_s=60) as client,
    ):
        calls = [asyncio.ensure_future(client.run("go", detached=True)) for _ in range(CALLS_AT_ONCE + 20)]
        await gate.holds(CALLS_AT_ONCE)
        assert gate.asked == CALLS_AT_ONCE
        task = (await client.list_tasks(page_size=1)).tasks[0]
        async with asyncio.timeout(20):
            assert (await client.cancel(task.id)).state == TASK_STATE_CANCELED
        gate.open()
        await asyncio.gather(*calls)


async def test_a_stream_that_is_left_before_its_first_event_cancels_its_task_all_the_same() -> None:
    store, gate = FakeStore(), Gate()
    async with started(Parts(model=FakeModel(gate.step), store=store)) as running:
        store.hold()
        reading = asyncio.ensure_future(anext(running.client.stream("go")))
        await store.is_held()
        reading.cancel()
        await asyncio.sleep(0)
        store.release()
        with pytest.raises(asyncio.CancelledError):
            await reading
        (task,) = (await running.client.list_tasks()).tasks
        assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_USER)


class Network:
    """Carries bytes to a server and back, until it swallows those of all connections that there are."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.partition(":")
        self._carrying: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def address(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self.swallow()
            for end in self._ends:
                end.transport.abort()

    def swallow(self) -> None:
        """Nobody is told; connections made from now on are carried again."""
        for task in self._carrying:
            task.cancel()
        self._carrying.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._host, int(self._port))
        self._ends += (writer, there_writer)
        for source, target in ((reader, there_writer), (there_reader, writer)):
            self._carrying.add(asyncio.create_task(_carry(source, target)))


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while some := await source.read(65536):
            target.write(some)
            await target.drain()
        target.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings every half second."""
    monkeypatch.setattr(channel, "PING_EVERY_S", 0.5)
    monkeypatch.setattr(channel, "PING_TIMEOUT_S", 0.5)


@pytest.mark.usefixtures("soon")
async def test_a_silent_network_is_noticed_and_the_answer_fetched_by_another_connection() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        network = Network(running.target)
        async with (
            network.address() as target,
            AsyncClient(target, api_key=KEY, patience_s=0) as impatient,
            AsyncClient(target, api_key=KEY, patience_s=60) as patient,
        ):
            cut_off = asyncio.ensure_future(impatient.run("go", detached=True))
            answered = asyncio.ensure_future(patient.run("go"))
            await gate.holds(2)
            network.swallow()
            with pytest.raises(CallError) as noticed:
                async with asyncio.timeout(30):
                    await cut_off
            assert noticed.value.is_interruption
            gate.open()
            assert (await answered).output == "hello"
        assert gate.asked == 2


@pytest.mark.parametrize("padded", [f"{KEY}\n", f"\r\n {KEY}\t", f"\v\f{KEY}"])
async def test_a_key_is_sent_without_the_white_space_around_it(padded: str) -> None:
    async with started(Parts()) as running, AsyncClient(running.target, api_key=padded) as client:
        assert [agent.name for agent in await client.list_agents()] != []


@pytest.mark.parametrize("mangled", ["kü", "a b", "a\nb", "\ufeffkey", "a\0", "\udcff", "…", "\U0001f600"])
def test_a_key_that_no_header_can_carry_is_refused_in_words(mangled: str) -> None:
    for make in (AsyncClient, Client):
        with pytest.raises(CallError) as refused:
            make("localhost:1", api_key=mangled)
        assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "API_KEY_INVALID")
        assert mangled not in str(refused.value)


async def test_a_server_that_is_not_there_is_told_with_what_to_look_at() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(CallError, match=r"is a server running at 127\.0\.0\.1:1\? AGENT_SERVICE_TARGET names the"):
            await client.run("go")

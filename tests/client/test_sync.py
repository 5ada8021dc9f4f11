"""The blocking client: interrupted, left, closed."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent_service.client import Client
from agent_service.v1.task_pb2 import CANCEL_CAUSE_USER, TASK_STATE_CANCELED, TASK_STATE_WORKING
from tests.harness import KEY, FakeModel, Parts, Running, started
from tests.service.worlds import Gate


class World:
    """A server in a thread of its own, so that a test's thread may block, and be interrupted."""

    def __init__(self) -> None:
        self.gate: Gate
        self.running: Running
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self.loop.run_until_complete(self._serve()))

    async def _serve(self) -> None:
        self.gate, self._stop = Gate(), asyncio.Event()
        async with started(Parts(model=FakeModel(self.gate.step))) as self.running:
            self._ready.set()
            await self._stop.wait()
            self.gate.open()

    def begin(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.loop.close()

    def ask(self, question: Callable[[], Any]) -> Any:
        """Await something in the server's loop."""

        async def asked() -> Any:
            return await question()

        return asyncio.run_coroutine_threadsafe(asked(), self.loop).result(20)

    def model_is_asked(self) -> None:
        self.ask(self.gate.holds)

    def only_task(self) -> Any:
        (task,) = self.ask(self.running.client.list_tasks).tasks
        return task


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.begin()
    try:
        yield made
    finally:
        made.end()


@contextmanager
def interrupted(when: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C, and nothing else gets out."""

    def interrupt() -> None:
        when()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the statement is the test's
            try:
                yield
            finally:
                thread.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_call_has_canceled_its_task_when_the_interrupt_arrives(world: World) -> None:
    with Client(world.running.target, api_key=KEY) as client:
        with interrupted(world.model_is_asked):
            client.run("go")
        task = world.only_task()
    assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_USER)


def test_an_interrupted_stream_ends_with_the_interrupt_and_cancels_its_task(world: World) -> None:
    with Client(world.running.target, api_key=KEY) as client:
        with interrupted(world.model_is_asked):
            for _ in client.stream("go"):
                """Until it is interrupted."""
        task = world.only_task()
    assert (task.state, task.cancel_cause) == (TASK_STATE_CANCELED, CANCEL_CAUSE_USER)


def test_an_interrupted_watch_leaves_the_task_alone(world: World) -> None:
    with Client(world.running.target, api_key=KEY) as client:
        task = client.submit("go")
        seen = threading.Event()
        with interrupted(seen.wait):
            for _ in client.watch(task.id):
                seen.set()
        assert world.only_task().state == TASK_STATE_WORKING


def test_a_closed_client_says_so_and_leaves_no_thread(world: World) -> None:
    before = set(threading.enumerate())
    client = Client(world.running.target, api_key=KEY)
    client.list_tools()
    client.close()
    client.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.list_tools()


def test_a_client_that_cannot_be_made_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with pytest.raises(AttributeError):
        Client(None)  # type: ignore[arg-type] # what is wrong here
    assert set(threading.enumerate()) <= before


def test_a_dropped_stream_that_the_collector_finds_in_the_clients_own_thread_is_left(world: World) -> None:
    with Client(world.running.target, api_key=KEY) as client:
        streams = [client.stream("go")]
        next(streams[0])
        client._loop.call_soon_threadsafe(streams.clear)
        client.list_tools()
        world.ask(world.running.is_quiet)
        assert world.only_task().cancel_cause == CANCEL_CAUSE_USER


def test_a_stream_that_outlives_its_client_ends_quietly(world: World) -> None:
    with Client(world.running.target, api_key=KEY) as client:
        stream = client.stream("go")
        next(stream)
    stream.close()  # type: ignore[attr-defined] # it is a generator


def test_a_stream_that_was_not_begun_may_be_dropped(world: World) -> None:
    with Client(world.running.target, api_key=KEY) as client:
        client.stream("go").close()  # type: ignore[attr-defined] # it is a generator
    assert not world.ask(world.running.client.list_tasks).tasks

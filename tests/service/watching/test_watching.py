"""Any number of watchers, from anywhere in a task, before it runs, while it does, and after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from agent_service.client import CallError
from agent_service.client.following import is_journaled
from agent_service.feed.memory import MemoryFeed
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.service.watching import watcher as watcher_module
from agent_service.store.memory import MemoryStore
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.task_event_pb2 import TaskEvent, TaskLimits
from agent_service.v1.task_pb2 import ON_DISCONNECT_DETACH, TASK_STATE_COMPLETED, TASK_STATE_WORKING
from tests.harness import FakeModel, Parts, Running, calls, reply, says, started
from tests.service.worlds import Gate, request, stub, until

LIMITS = TaskLimits(turns=50, tool_calls=50, parallel_tools=4)


@tool(side_effect="read_only")
async def look(at: int) -> int:
    """Looks."""
    return at


async def watched(running: Running, task_id: str, after: int = 0) -> list[TaskEvent]:
    async with asyncio.timeout(20), aclosing(running.client.watch(task_id, after_sequence=after)) as events:
        return [event async for event in events]


def sequences(events: list[TaskEvent]) -> list[int]:
    return [event.sequence for event in events if not event.HasField("text_delta")]


async def test_after_its_end_a_task_shows_its_journal_from_any_sequence() -> None:
    model = FakeModel(calls(("look", {"at": 1})), says("done"))
    async with started(Parts(model=model, tools=[look])) as running:
        task = await running.client.run("go")
        journal = await running.store.read(task.id)
        for after in range(len(journal) + 3):
            assert await watched(running, task.id, after) == journal[after:]


async def test_before_its_turn_it_can_be_watched_and_from_then_on_to_its_end() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step, says("hello")), running_max=1)) as running:
        await running.client.submit("in the way")
        await gate.holds()
        task = await running.client.submit("go")
        watchers = [asyncio.ensure_future(watched(running, task.id)) for _ in range(5)]
        await until(lambda: task.id in running.service.feed.watched())
        gate.open()
        seen = await asyncio.gather(*watchers)
        journal = await running.store.read(task.id)
    for events in seen:
        assert [event for event in events if is_journaled(event)] == journal


async def test_watchers_that_join_and_leave_at_any_moment_miss_nothing_and_see_nothing_twice() -> None:
    """Many joins at random places of a task of many steps, some resuming where they broke off."""
    chance = random.Random(7)
    steps = [calls(("look", {"at": n}), ("look", {"at": n + 1})) for n in range(12)]
    model = FakeModel(*steps, says("the end of it", pieces=6))
    async with started(Parts(model=model, tools=[look], limits=LIMITS)) as running:
        running_task = asyncio.ensure_future(running.client.run("go"))
        listed = (await running.client.list_tasks()).tasks
        while not listed:
            listed = (await running.client.list_tasks()).tasks
        task_id = listed[0].id

        async def one_watcher() -> list[TaskEvent]:
            seen: list[TaskEvent] = []
            while True:
                after = sequences(seen)[-1] if sequences(seen) else 0
                leave_at = chance.randint(1, 30)
                async with aclosing(running.client.watch(task_id, after_sequence=after)) as events:
                    async for event in events:
                        seen.append(event)
                        leave_at -= 1
                        if leave_at == 0:
                            break
                    else:
                        return [event for event in seen if not event.HasField("text_delta")]

        watchers = []
        for _ in range(40):
            watchers.append(asyncio.ensure_future(one_watcher()))
            await asyncio.sleep(0)
        await running_task
        journals = await asyncio.gather(*watchers)
        whole = await running.store.read(task_id)
    assert [event.sequence for event in whole] == list(range(1, len(whole) + 1))
    assert all(journal == whole for journal in journals)


class Writer:
    """A model that writes when its test says so."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.written = ""

    async def step(self, _: ModelRequest, observer: ModelObserver) -> ModelReply:
        while (piece := await self.pieces.get()) is not None:
            self.written += piece
            observer.text(piece)
        return reply(self.written)


async def next_text(events: AsyncGenerator[TaskEvent], text: str) -> list[TaskEvent]:
    """Read until so much text has come."""
    seen: list[TaskEvent] = []
    while "".join(event.text_delta.text for event in seen) != text:
        async with asyncio.timeout(20):
            seen.append(await anext(events))
    return seen


async def test_who_joins_in_the_middle_of_a_turn_gets_its_text_so_far_as_one_delta_and_then_the_rest() -> None:
    writer = Writer()
    async with started(Parts(model=FakeModel(writer.step))) as running:
        task = await running.client.submit("go")
        for piece in ("Größe ", "und "):
            writer.pieces.put_nowait(piece)
        await until(lambda: writer.written == "Größe und ")
        async with aclosing(running.client.watch(task.id)) as events:
            first = await next_text(events, "Größe und ")
            deltas = [event for event in first if event.HasField("text_delta")]
            assert [(one.text_delta.offset, one.text_delta.text) for one in deltas] == [(0, "Größe und ")]
            assert deltas[0].sequence == sequences(first)[-1]
            writer.pieces.put_nowait("Form")
            (more,) = await next_text(events, "Form")
            assert more.text_delta.offset == len("Größe und ".encode())
            writer.pieces.put_nowait(None)
            rest = [event async for event in events]
        assert [event.WhichOneof("event") for event in rest] == ["model_replied", "completed"]


async def test_who_says_to_have_more_than_there_is_sees_the_end_and_only_what_is_above_that() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        task = await running.client.submit("go")
        await gate.holds()
        async with stub(running) as (methods, metadata):
            streams = []
            for after in (4, 5, 1000, 2**63 - 1):
                wanted = pb.WatchTaskRequest(task_id=task.id, after_sequence=after)
                streams.append(methods.WatchTask(wanted, metadata=metadata))
                await streams[-1].initial_metadata()
            gate.open()
            async with asyncio.timeout(20):
                seen = [sequences([response.event async for response in stream]) for stream in streams]
    assert seen == [[5], [], [], []]


class HeldReads(MemoryStore):
    """Journals are read only while `may_read` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        await self.may_read.wait()
        return await super().read(task_id, after_sequence=after_sequence, limit=limit)


async def test_a_task_that_is_erased_is_not_found_by_those_who_still_watch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that learns of the end from the store alone, and comes too late to read it."""
    monkeypatch.setattr(watcher_module, "HEARTBEAT_S", 0.02)
    gate = Gate()
    store = HeldReads()
    async with store, started(Parts(model=FakeModel(gate.step), store=store)) as running:
        task = await running.client.submit("go")
        await gate.holds()
        watcher = asyncio.ensure_future(watched(running, task.id))
        await until(lambda: task.id in running.service.feed.watched())
        monkeypatch.setattr(running.service.feed, "publish", lambda _: None)
        store.may_read.clear()
        gate.open()
        await until(lambda: not running.runner.running)
        await running.client.delete_task(task.id)
        store.may_read.set()
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await watcher


async def test_a_silent_stream_has_heartbeats_that_stand_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watcher_module.HEARTBEAT_S == 15.0
    monkeypatch.setattr(watcher_module, "HEARTBEAT_S", 0.02)
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        task = await running.client.submit("go")
        async with asyncio.timeout(20), aclosing(running.client.watch(task.id)) as events:
            seen = [await anext(events) for _ in range(5)]
        beats = [event for event in seen if event.HasField("heartbeat")]
        assert len(beats) == 2
        assert {beat.sequence for beat in beats} == {3}
        gate.open()
        await running.is_quiet()
        assert "heartbeat" not in await running.journal(task.id)


async def test_a_watcher_that_does_not_read_costs_bounded_memory_and_gets_every_journaled_event() -> None:
    writer = Writer()
    steps = [calls(("look", {"at": n})) for n in range(40)]
    async with started(Parts(model=FakeModel(*steps, writer.step), tools=[look], limits=LIMITS)) as running:
        async with stub(running) as (methods, metadata):
            gate = asyncio.ensure_future(running.client.submit("go"))
            task = await gate
            slow = methods.WatchTask(pb.WatchTaskRequest(task_id=task.id), metadata=metadata)
            await slow.initial_metadata()
            for _ in range(400):
                writer.pieces.put_nowait("x" * 2000)
            writer.pieces.put_nowait(None)
            await until(lambda: not running.runner.running)
            events = [response.event async for response in slow]
        whole = await running.store.read(task.id)
    assert [event for event in events if not event.HasField("text_delta")] == whole
    # Pieces that nobody had read were merged: far fewer came than were written.
    assert sum(event.HasField("text_delta") for event in events) < 100


async def test_a_watcher_that_reads_late_has_the_text_without_a_gap_though_little_of_it_was_kept() -> None:
    writer, pieces = Writer(), 400
    async with started(Parts(model=FakeModel(writer.step))) as running, stub(running) as (methods, metadata):
        task = await running.client.submit("go")
        slow = methods.WatchTask(pb.WatchTaskRequest(task_id=task.id), metadata=metadata)
        await slow.initial_metadata()
        for _ in range(pieces):
            writer.pieces.put_nowait("ü" * 1000)
        await until(lambda: len(writer.written) == pieces * 1000)
        text = ""
        async with asyncio.timeout(20):
            while len(text) < pieces * 1000:
                delta = (await slow.read()).event.text_delta
                assert delta.offset in (0, len(text.encode()))
                text += delta.text
        assert text == writer.written
        writer.pieces.put_nowait(None)
        async with asyncio.timeout(20):
            rest = [(await slow.read()).event.WhichOneof("event") for _ in range(2)]
        assert rest == ["model_replied", "completed"]


async def test_watching_is_not_attending(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        task = await running.client.submit("go")
        async with aclosing(running.client.watch(task.id)) as events:
            await anext(events)
        await until(lambda: any(line.get("code") == "CANCELLED" for line in running.log))
        assert (await running.client.get_task(task.id)).state == TASK_STATE_WORKING
        gate.open()
        await running.is_quiet()
        assert (await running.client.get_task(task.id)).state == TASK_STATE_COMPLETED


async def test_the_feed_keeps_nothing_of_tasks_that_ended_and_of_watchers_that_left() -> None:
    writer = Writer()
    async with started(Parts(model=FakeModel(writer.step))) as running:
        feed = running.service.feed
        streamed = asyncio.ensure_future(all_of(running.client.stream("go", detached=True)))
        writer.pieces.put_nowait("so far")
        await until(lambda: writer.written == "so far")
        (task_id,) = running.runner.running
        for _ in range(3):
            async with aclosing(running.client.watch(task_id)) as events:
                await next_text(events, "so far")
        streamed.cancel()
        await until(lambda: not feed.watched())
        assert await feed.snapshot(task_id) is not None
        writer.pieces.put_nowait(None)
        await running.is_quiet()
        assert await feed.snapshot(task_id) is None
        assert isinstance(feed, MemoryFeed)
        assert (feed._subscriptions, feed._channels) == ({}, {})


async def all_of(events: AsyncGenerator[TaskEvent]) -> list[TaskEvent]:
    return [event async for event in events]


async def test_a_stream_ends_where_the_task_begins_to_wait_for_input() -> None:
    model = FakeModel(calls(("look", {"at": 1})), says("done"))
    async with started(Parts(model=model, tools=[look], needs_approval=["look"])) as running:
        task = await running.client.run("go")
        assert (await watched(running, task.id))[-1].HasField("input_required")
        assert await watched(running, task.id, after=5) == []


async def test_a_server_that_leaves_ends_the_stream_with_the_place_to_go_on_from() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running:
        task = await running.client.submit("go")
        await gate.holds()
        seen: list[TaskEvent] = []

        async def watch() -> None:
            async for event in running.client.watch(task.id):
                seen.append(event)  # noqa: PERF401 - what was seen before the error counts

        watcher = asyncio.ensure_future(watch())
        await until(lambda: len(seen) == 3)
        await running.service.drain(0)
        with pytest.raises(CallError) as ended:
            await watcher
        assert (ended.value.code, ended.value.reason) == ("UNAVAILABLE", "DRAINING")
        assert ended.value.metadata == {"task_id": task.id, "last_sequence": "5"}
        assert seen[-1].HasField("attempt_ended")


@pytest.mark.parametrize("task_id", ["", "no such id!", "x" * 129, "f" * 32])
async def test_what_is_no_id_of_a_task_is_not_found(task_id: str) -> None:
    async with started() as running:
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await watched(running, task_id)
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await running.client.get_task(task_id)
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await running.client.cancel(task_id)


async def test_another_tenants_task_is_not_found_by_any_method() -> None:
    async with started() as running:
        task = await running.client.run("go")
        theirs = running.other_tenant
        for call in (theirs.get_task, theirs.cancel, theirs.delete_task):
            with pytest.raises(CallError, match="TASK_NOT_FOUND"):
                await call(task.id)
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            async for _ in theirs.watch(task.id):
                pass
        assert not (await theirs.list_tasks()).tasks


async def test_a_negative_sequence_is_told_by_its_field() -> None:
    async with started() as running:
        task = await running.client.run("go")
        with pytest.raises(CallError) as refused:
            await watched(running, task.id, after=-1)
        assert refused.value.violations == (("after_sequence", "must not be negative"),)


async def test_the_tasks_id_is_in_the_headers_as_soon_as_it_is_stored() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step))) as running, stub(running) as (methods, metadata):
        call = methods.StreamTask(
            pb.StreamTaskRequest(run=request(on_disconnect=ON_DISCONNECT_DETACH)), metadata=metadata
        )
        async with asyncio.timeout(20):
            headers = dict(await call.initial_metadata())
        assert (await running.client.get_task(headers["x-task-id"])).state == TASK_STATE_WORKING
        gate.open()
        await running.is_quiet()

"""The model's reasoning: seen while it is written, apart from the answer, and kept nowhere."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from agent_service.errors import LLMError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.store.base import Database
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.harness import FakeModel, Parts, Running, reply, started
from tests.service.worlds import Gate, until

CUT = LLMError(reasons.ERROR_REASON_LLM_UNAVAILABLE, "the connection broke", retryable=True)


async def thinks(_: ModelRequest, observer: ModelObserver) -> ModelReply:
    observer.reasoning("Two and ")
    observer.reasoning("three, so ")
    observer.text("It is ")
    observer.text("five.")
    return reply("It is five.")


async def thinks_again(_: ModelRequest, observer: ModelObserver) -> ModelReply:
    """Is cut off in the middle of its reasoning, and then begins anew."""
    observer.reasoning("I was inter")
    await observer.failed(CUT)
    await observer.started("fake", 2)
    observer.reasoning("Whole.")
    observer.text("Done.")
    return reply("Done.")


async def streamed(running: Running) -> list[TaskEvent]:
    async with asyncio.timeout(20), aclosing(running.client.stream("go")) as events:
        return [event async for event in events]


def told(events: list[TaskEvent]) -> list[str]:
    """The arms, and of live pieces what they say."""
    return [event.reasoning_delta.text or event.text_delta.text or str(event.WhichOneof("event")) for event in events]


async def test_reasoning_comes_before_the_text_that_follows_it_and_is_in_no_journal() -> None:
    async with started(Parts(model=FakeModel(thinks))) as running:
        events = await streamed(running)
        journal = await running.store.read(events[0].task_id)
    live = [event for event in events if event.HasField("reasoning_delta") or event.HasField("text_delta")]
    assert [event for event in events if event not in live] == journal
    assert "".join(told(live)) == "Two and three, so It is five."
    assert {event.sequence for event in live} == {3}
    for kind in ("reasoning_delta", "text_delta"):
        written = 0
        for delta in (getattr(event, kind) for event in live if event.HasField(kind)):
            assert (delta.turn, delta.try_number, delta.offset) == (1, 1, written)
            written += len(delta.text.encode())


async def test_a_try_that_failed_ends_its_reasoning_and_the_next_one_begins_anew() -> None:
    async with started(Parts(model=FakeModel(thinks_again))) as running:
        events = await streamed(running)
    assert told(events)[2:] == [
        "model_started",
        "I was inter",
        "model_failed",
        "model_started",
        "Whole.",
        "Done.",
        "model_replied",
        "completed",
    ]
    first, second = (event.reasoning_delta for event in events if event.HasField("reasoning_delta"))
    assert (first.try_number, second.try_number) == (1, 2)
    assert first.offset == second.offset == 0


async def test_reasoning_that_comes_after_the_end_of_its_try_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that reads slowly learns of the end from the store before it comes to what was live."""
    before, after, may_read = Gate(), Gate("Done."), asyncio.Event()

    async def cut_off(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await before.step(request, observer)
        observer.reasoning("I was inter")
        await observer.failed(CUT)
        await observer.started("fake", 2)
        return await after.step(request, observer)

    async with started(Parts(model=FakeModel(cut_off))) as running:
        task = await running.client.submit("go", detached=True)
        await before.holds()
        when_it_may(running.store, may_read, monkeypatch)
        async with asyncio.timeout(20), aclosing(running.client.watch(task.id)) as events:
            first = asyncio.ensure_future(anext(events))
            await until(lambda: task.id in running.service.feed.watched())
            before.open()
            await after.holds()
            may_read.set()
            seen = [await first] + [await anext(events) for _ in range(4)]
            after.open()
            rest = [event async for event in events]
    assert told(seen)[2:] == ["model_started", "model_failed", "model_started"]
    assert told(rest) == ["Done.", "model_replied", "completed"]


def when_it_may(store: Database, may: asyncio.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading waits; nothing but the watcher reads meanwhile."""
    read = store.read

    async def late(*arguments: object, **named: object) -> list[TaskEvent]:
        await may.wait()
        return list(await read(*arguments, **named))  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(store, "read", late)


async def test_who_comes_back_gets_every_numbered_event_once_and_the_text_without_a_gap() -> None:
    steps: asyncio.Queue[str] = asyncio.Queue()

    async def in_steps(_: ModelRequest, observer: ModelObserver) -> ModelReply:
        while (step := await steps.get()) != "end":
            kind, piece = step.split(":")
            (observer.text if kind == "text" else observer.reasoning)(piece)
        return reply("It is five.")

    async with started(Parts(model=FakeModel(in_steps))) as running:
        task = await running.client.submit("go", detached=True)
        async with asyncio.timeout(20), aclosing(running.client.watch(task.id)) as events:
            seen = [await anext(events) for _ in range(3)]
            for step in ("reasoning:Grüße ", "text:It is "):
                steps.put_nowait(step)
            seen += [await anext(events) for _ in range(2)]
        assert told(seen)[3:] == ["Grüße ", "It is "]
        assert [event.sequence for event in seen] == [1, 2, 3, 3, 3]

        async with asyncio.timeout(20), aclosing(running.client.watch(task.id, after_sequence=3)) as events:
            rest = [await anext(events)]
            for step in ("reasoning:and more", "text:five.", "end"):
                steps.put_nowait(step)
            rest += [event async for event in events]
    assert [event.sequence for event in rest if not live_piece(event)] == [4, 5]
    assert "".join(event.text_delta.text for event in rest) == "It is five."
    later = [event.reasoning_delta for event in rest if event.HasField("reasoning_delta")]
    # What was missed of the reasoning is not sent again: the offset tells that there was something before.
    assert [(one.offset, one.text) for one in later] == [(len("Grüße ".encode()), "and more")]


def live_piece(event: TaskEvent) -> bool:
    return event.HasField("reasoning_delta") or event.HasField("text_delta")


async def test_reasoning_that_nobody_reads_is_merged_and_every_numbered_event_comes() -> None:
    pieces = 4000

    async def thinks_long(_: ModelRequest, observer: ModelObserver) -> ModelReply:
        for _number in range(pieces):
            observer.reasoning("x" * 200)
        return reply("done")

    async with started(Parts(model=FakeModel(thinks_long))) as running:
        events = await streamed(running)
        journal = await running.store.read(events[0].task_id)
    assert [event for event in events if not live_piece(event)] == journal
    assert sum(map(live_piece, events)) < pieces / 10


async def test_the_reasoning_of_a_request_that_broke_off_counts_as_written() -> None:
    gate = Gate()

    async def thinks_on(request: ModelRequest, observer: ModelObserver) -> ModelReply:
        observer.reasoning("x" * 300)
        return await gate.step(request, observer)

    async with started(Parts(model=FakeModel(thinks_on))) as running:
        task = await running.client.submit("go", detached=True)
        await gate.holds()
        await running.client.cancel(task.id)
        usage = (await running.client.get_task(task.id)).usage
    assert usage.reasoning_tokens == usage.output_tokens == 100
    assert usage.estimated

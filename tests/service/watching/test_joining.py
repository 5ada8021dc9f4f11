"""Watchers that join between any two things that happen, while the store takes its time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from agent_service.client.following import is_journaled
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.store.memory import MemoryStore
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import FINISH_REASON_TOOL_CALLS, TaskEvent, TaskLimits
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall
from tests.harness import FakeModel, Parts, Running, Step, reply, started
from tests.service.worlds import until

TURNS = 4


class LateStore(MemoryStore):
    """Hands over what was read some turns of the loop later: meanwhile the task goes on."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        events = await super().read(task_id, after_sequence=after_sequence, limit=limit)
        await turns(self._chance.randint(0, 40))
        return events


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


def writes(text: str, chance: random.Random, begun: asyncio.Event, *, last: bool) -> Step:
    """A step that writes a text piece by piece, and asks for a tool unless it is the last one."""

    async def step(_: ModelRequest, observer: ModelObserver) -> ModelReply:
        await begun.wait()
        for piece in text:
            await turns(chance.randint(0, 6))
            observer.text(piece)
        if last:
            return reply(text)
        call = ToolCall(name="look", arguments_json="{}")
        return ModelReply(text, [call], FINISH_REASON_TOOL_CALLS, Usage(), "fake-1")

    return step


async def watched(running: Running, task_id: str, after: int) -> list[TaskEvent]:
    async with asyncio.timeout(30), running.service.watcher.watch(task_id, after) as frames:
        return [frame.event async for frame in frames]


def check(seen: list[TaskEvent], whole: list[TaskEvent], after: int) -> None:
    """The journal behind `after`; live text stands where it belongs, and is whole from where it begins."""
    assert [event for event in seen if is_journaled(event)] == whole[after:]
    sequence, texts, replied = after, dict[int, str](), 0
    for event in seen:
        if is_journaled(event):
            sequence = event.sequence
            replied = event.model_replied.turn or replied
            continue
        delta = event.text_delta
        assert max(event.sequence, after) == sequence, "a caller that goes on from here would miss something"
        assert delta.turn > replied, "text of a turn that is over"
        assert delta.offset == len(texts.get(delta.turn, "").encode()), "a gap, or twice the same"
        texts[delta.turn] = texts.get(delta.turn, "") + delta.text
    for event in whole:
        assert event.model_replied.text.startswith(texts.get(event.model_replied.turn, ""))


@pytest.mark.parametrize("seed", range(6))
async def test_whenever_a_watcher_joins_events_and_text_come_whole_and_in_place(seed: int) -> None:
    chance, begun = random.Random(seed), asyncio.Event()
    steps = [writes(f"Größe {turn} " * 4, chance, begun, last=turn == TURNS) for turn in range(1, TURNS + 1)]
    limits = TaskLimits(turns=TURNS, tool_calls=TURNS, parallel_tools=1)
    parts = Parts(model=FakeModel(*steps), tools=[look], limits=limits, store=LateStore(chance))
    async with started(parts) as running:
        task = await running.client.submit("go")
        joined: list[tuple[int, asyncio.Future[list[TaskEvent]]]] = []
        begun.set()
        while task.id in running.runner.running and len(joined) < 200:
            row = await running.store.find(task.id)
            after = chance.randint(0, row.last.sequence + 3 if row else 0)
            joined.append((after, asyncio.ensure_future(watched(running, task.id, after))))
            await turns(chance.randint(1, 30))
        await until(lambda: not running.runner.running)
        whole = await running.store.read(task.id)
        assert len(joined) > 10
        for after, watcher in joined:
            check(await watcher, whole, after)


@pytest.mark.parametrize("piece_length", [1000, 3_000_000])
async def test_no_delta_is_larger_than_clients_receive_however_much_was_written(piece_length: int) -> None:
    text, begun, written, ends = "Größe" * 1_000_000, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def writes_much(_: ModelRequest, observer: ModelObserver) -> ModelReply:
        await begun.wait()
        for start in range(0, len(text), piece_length):
            observer.text(text[start : start + piece_length])
        written.set()
        await ends.wait()
        return reply("short")

    async with started(Parts(model=FakeModel(writes_much))) as running, asyncio.timeout(30):
        task = await running.client.submit("go")
        async with aclosing(running.client.watch(task.id)) as early:
            await anext(early)
            begun.set()
            await written.wait()
            async with aclosing(running.client.watch(task.id)) as late:
                for events in (early, late):
                    shown = await text_of(events, len(text.encode()))
                    assert shown == text
        ends.set()


async def text_of(events: AsyncIterator[TaskEvent], length: int) -> str:
    """The live text that a watcher gets, which comes without a gap, until so many bytes of it are there."""
    pieces: list[str] = []
    there = 0
    async for event in events:
        if event.HasField("text_delta"):
            assert (event.text_delta.offset, event.ByteSize() < 100_000) == (there, True)
            pieces.append(event.text_delta.text)
            there += len(event.text_delta.text.encode())
            if there >= length:
                break
    return "".join(pieces)

"""How a model's text and reasoning reach those who watch: soon, in few pieces, never at the price of the journal."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent_service.engine.attempt.live_text import DELTA_BYTES_MAX, LiveText
from agent_service.engine.attempt.stop import Stop
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.task.state import FoldedTask
from agent_service.engine.timing import Timing
from agent_service.feed.frame import Frame, delta_of
from agent_service.feed.memory import MemoryFeed, MemorySubscription
from agent_service.store.memory import MemoryStore
from agent_service.v1.task_event_pb2 import ReasoningDelta, TaskEvent, TaskSubmitted, TextDelta

FOR_EVER_S = 3600.0


class Watched:
    """A task of which one event is stored, and the feed of its watchers."""

    def __init__(self, *, is_reasoning: bool = False) -> None:
        self.feed = MemoryFeed()
        folded = FoldedTask()
        self.journal = JournalWriter("t", folded, Stop(folded), MemoryStore(), self.feed, time.time)
        self.is_reasoning = is_reasoning

    def live(self, turn: int = 1, try_number: int = 1) -> LiveText:
        return LiveText(self.journal, turn, try_number, is_reasoning=self.is_reasoning)

    def delta(self, frame: Frame | None) -> TextDelta | ReasoningDelta:
        """The piece in a frame, which is of the right kind."""
        assert frame is not None
        assert frame.arm == ("reasoning_delta" if self.is_reasoning else "text_delta")
        return delta_of(frame.event)

    async def texts(self, watcher: MemorySubscription) -> list[str]:
        """What the watcher has not read yet. Pieces that wait are merged: read after each."""
        texts = []
        while (frame := await watcher.next(0)) is not None:
            texts.append(self.delta(frame).text)
        return texts


@pytest.fixture(params=[False, True], ids=["text", "reasoning"])
async def task(request: pytest.FixtureRequest) -> Watched:
    task = Watched(is_reasoning=request.param)
    task.journal.write(TaskEvent(submitted=TaskSubmitted(tenant="acme", task="hi")))
    await task.journal.sync()
    return task


@pytest.fixture
def slow_clock(task: Watched) -> None:
    """No time passes between two pieces."""
    task.journal.timing = Timing(delta_interval=FOR_EVER_S)


@pytest.mark.usefixtures("slow_clock")
async def test_the_first_piece_is_shown_at_once_and_the_next_ones_together(task: Watched) -> None:
    live = task.live()
    with task.feed.subscribe("t") as watcher:
        live.add("one ")
        assert await task.texts(watcher) == ["one "]
        live.add("two ")
        live.add("three")
        assert await task.texts(watcher) == []
        live.flush()
        assert await task.texts(watcher) == ["two three"]
        live.flush()
        assert await task.texts(watcher) == []


async def test_pieces_that_wait_are_shown_when_their_time_has_come(task: Watched) -> None:
    task.journal.timing = Timing(delta_interval=0.001)
    live = task.live()
    with task.feed.subscribe("t") as watcher:
        live.add("one ")
        assert await task.texts(watcher) == ["one "]
        live.add("two")
        assert task.delta(await watcher.next(FOR_EVER_S)).text == "two"


@pytest.mark.usefixtures("slow_clock")
async def test_a_piece_that_has_grown_large_does_not_wait(task: Watched) -> None:
    live = task.live()
    with task.feed.subscribe("t") as watcher:
        live.add("x")
        await task.texts(watcher)
        live.add("ä" * (DELTA_BYTES_MAX // 2 - 1))
        assert await task.texts(watcher) == []
        live.add("ä")
        assert await task.texts(watcher) == ["ä" * (DELTA_BYTES_MAX // 2)]


@pytest.mark.usefixtures("slow_clock")
async def test_a_piece_tells_where_it_belongs_and_what_was_stored_before_it(task: Watched) -> None:
    live = task.live(turn=2, try_number=3)
    with task.feed.subscribe("t") as watcher:
        live.add("Grüße")
        first = await watcher.next(0)
        live.add(" 🌍")
        live.flush()
        second = await watcher.next(0)

    assert first is not None
    assert (first.event.task_id, first.event.sequence, first.event.HasField("create_time")) == ("t", 1, True)
    assert (task.delta(first).turn, task.delta(first).try_number) == (2, 3)
    assert (task.delta(first).offset, task.delta(second).offset) == (0, len("Grüße".encode()))
    assert live.written_bytes == len("Grüße 🌍".encode())


@pytest.mark.usefixtures("slow_clock")
async def test_text_that_nobody_watches_is_counted_and_not_made(task: Watched) -> None:
    live = task.live()
    live.add("nobody ")
    live.add("saw this ")
    with task.feed.subscribe("t") as watcher:
        live.add("but this")
        live.flush()
        delta = task.delta(await watcher.next(0))

    assert (delta.text, delta.offset) == ("but this", len("nobody saw this "))
    assert live.written_bytes == len("nobody saw this but this")


@pytest.mark.usefixtures("slow_clock")
async def test_a_watcher_that_goes_leaves_nothing_behind_for_the_next(task: Watched) -> None:
    live = task.live()
    with task.feed.subscribe("t") as watcher:
        live.add("one ")
        await task.texts(watcher)
        live.add("two ")
    live.add("three ")
    with task.feed.subscribe("t") as watcher:
        live.add("four")
        live.flush()
        delta = task.delta(await watcher.next(0))

    end = delta.offset + len(delta.text.encode())
    assert "one two three four".endswith(delta.text)
    assert end == live.written_bytes == len("one two three four")


async def test_live_text_is_in_no_journal(task: Watched) -> None:
    store = MemoryStore()
    folded = FoldedTask()
    journal = JournalWriter("t", folded, Stop(folded), store, task.feed, time.time)
    journal.write(TaskEvent(submitted=TaskSubmitted(tenant="acme", task="hi")))
    await journal.sync()
    with task.feed.subscribe("t") as watcher:
        live = LiveText(journal, 1, 1, is_reasoning=task.is_reasoning)
        live.add("hello")
        await asyncio.sleep(0)
        await journal.sync()
        assert await task.texts(watcher) == ["hello"]

    assert [event.WhichOneof("event") for event in await store.read("t")] == ["submitted"]


async def test_who_comes_later_gets_the_text_so_far_and_of_the_reasoning_nothing(task: Watched) -> None:
    live = task.live()
    live.add("so far")
    snapshot = await task.feed.snapshot("t")
    if task.is_reasoning:
        assert snapshot is None
    else:
        assert task.delta(snapshot).text == "so far"


async def test_the_text_so_far_is_dropped_at_the_end_of_the_turn(task: Watched) -> None:
    live = task.live()
    live.add("so far")
    live.end()
    assert await task.feed.snapshot("t") is None


async def test_the_text_so_far_is_dropped_at_the_end_of_the_attempt(task: Watched) -> None:
    task.live().add("so far")
    task.journal.close()
    assert await task.feed.snapshot("t") is None
    assert not task.feed._channels


async def test_the_text_so_far_is_that_of_the_try_that_runs(task: Watched) -> None:
    first = task.live(try_number=1)
    first.add("cut o")
    second = task.live(try_number=2)
    first.end()
    second.add("whole")
    snapshot = await task.feed.snapshot("t")
    if not task.is_reasoning:
        assert (task.delta(snapshot).try_number, task.delta(snapshot).text) == (2, "whole")


async def test_reasoning_moves_no_offset_of_the_text_and_hides_none_of_it() -> None:
    task = Watched()
    text, reasoning = LiveText(task.journal, 1, 1), LiveText(task.journal, 1, 1, is_reasoning=True)
    reasoning.add("I think ")
    text.add("It is ")
    reasoning.add("that")
    text.add("five.")
    reasoning.end()
    so_far = await task.feed.snapshot("t")
    assert (task.delta(so_far).offset, task.delta(so_far).text) == (0, "It is five.")
    assert (text.written_bytes, reasoning.written_bytes) == (len("It is five."), len("I think that"))

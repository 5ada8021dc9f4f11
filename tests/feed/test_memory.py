"""What a watcher sees of a running task, and what it costs when it does not look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from agent_service.feed.base import FeedClosedError, Lagged, Subscription
from agent_service.feed.memory import MERGED_DELTA_BYTES_MAX, PENDING_EVENTS_MAX, PENDING_TEXT_MAX, MemoryFeed
from agent_service.v1.task_event_pb2 import ReasoningDelta, TaskEvent, TextDelta, ToolStarted

NOT_AT_ALL_S = 0.0
LONG_S = 60.0


def step(sequence: int, task_id: str = "t") -> TaskEvent:
    return TaskEvent(task_id=task_id, sequence=sequence, tool_started=ToolStarted(tool_call_id=f"c{sequence}"))


def delta(offset: int, text: str, *, turn: int = 1, try_number: int = 1, sequence: int = 0) -> TaskEvent:
    piece = TextDelta(turn=turn, try_number=try_number, offset=offset, text=text)
    return TaskEvent(task_id="t", sequence=sequence, create_time=Timestamp(seconds=1), attempt=1, text_delta=piece)


def thought(offset: int, text: str, *, turn: int = 1, try_number: int = 1, sequence: int = 0) -> TaskEvent:
    """The same of the model's reasoning."""
    piece = ReasoningDelta(turn=turn, try_number=try_number, offset=offset, text=text)
    return TaskEvent(task_id="t", sequence=sequence, create_time=Timestamp(seconds=1), attempt=1, reasoning_delta=piece)


def length(event: TaskEvent) -> int:
    return len(event.text_delta.text) + len(event.reasoning_delta.text)


# The two kinds of live text, which differ in nothing here.
EITHER = pytest.mark.parametrize("delta", [delta, thought])
Delta = Callable[..., TaskEvent]


async def drain(subscription: Subscription) -> list[TaskEvent]:
    """All that is there now."""
    events = []
    while (event := await subscription.next(NOT_AT_ALL_S)) is not None:
        events.append(event)
    return events


async def test_events_come_in_order_to_every_watcher() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as one, feed.subscribe("t") as other:
        feed.publish([step(1), step(2)])
        feed.publish([step(3)])

        assert await drain(one) == await drain(other) == [step(1), step(2), step(3)]


async def test_a_watcher_sees_its_own_task_alone_and_only_what_comes_after_it() -> None:
    feed = MemoryFeed()
    feed.publish([step(1)])
    with feed.subscribe("t") as subscription:
        feed.publish([step(7, "another")])
        feed.publish([step(2)])

        assert await drain(subscription) == [step(2)]


async def test_a_watcher_that_waits_is_woken() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        waiting = asyncio.create_task(subscription.next(LONG_S))
        await asyncio.sleep(0)
        feed.publish([step(1)])

        assert await waiting == step(1)


async def test_silence_is_told_as_none() -> None:
    with MemoryFeed().subscribe("t") as subscription:
        assert await subscription.next(0.001) is None
        assert await subscription.next(NOT_AT_ALL_S) is None


async def test_a_watcher_that_stops_waiting_misses_nothing() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        waiting = asyncio.create_task(subscription.next(LONG_S))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        feed.publish([step(1)])

        assert await subscription.next(LONG_S) == step(1)


async def test_a_task_is_watched_while_anybody_watches_it() -> None:
    feed = MemoryFeed()
    assert "t" not in feed.watched()
    with feed.subscribe("t"):
        with feed.subscribe("t"):
            assert "t" in feed.watched()
            assert "another" not in feed.watched()
        assert "t" in feed.watched()
    assert "t" not in feed.watched()


@EITHER
async def test_pieces_of_text_that_wait_become_one(delta: Delta) -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        for piece in (delta(0, "Grüße", sequence=3), delta(7, ", "), delta(9, "Welt", sequence=4)):
            feed.publish([piece])

        (merged,) = await drain(subscription)
        assert merged == delta(0, "Grüße, Welt", sequence=4)


@pytest.mark.parametrize(
    "later", [delta(2, "c", turn=2), delta(2, "c", try_number=2), delta(3, "c"), delta(0, "c"), step(1)]
)
async def test_pieces_that_do_not_join_stay_apart(later: TaskEvent) -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        feed.publish([delta(0, "ab"), later])

        assert await drain(subscription) == [delta(0, "ab"), later]


async def test_reasoning_and_text_do_not_join_and_keep_their_order() -> None:
    feed = MemoryFeed()
    pieces = [thought(0, "ab"), delta(0, "ab"), thought(2, "cd"), delta(2, "cd")]
    with feed.subscribe("t") as subscription:
        feed.publish(pieces)
        assert await drain(subscription) == pieces


@EITHER
async def test_an_event_between_two_pieces_keeps_them_apart(delta: Delta) -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        feed.publish([delta(0, "ab"), step(1), delta(2, "cd")])

        assert await drain(subscription) == [delta(0, "ab"), step(1), delta(2, "cd")]


@EITHER
async def test_a_merged_piece_stays_of_a_size_that_can_be_held(delta: Delta) -> None:
    feed = MemoryFeed()
    piece = "x" * (MERGED_DELTA_BYTES_MAX // 4)
    with feed.subscribe("t") as subscription:
        for index in range(12):
            feed.publish([delta(index * len(piece), piece)])
        events = await drain(subscription)

    lengths = [length(event) for event in events]
    assert sum(lengths) == 12 * len(piece)
    assert len(lengths) > 1
    assert max(lengths) <= MERGED_DELTA_BYTES_MAX + len(piece)


@EITHER
async def test_events_are_shared_and_merging_changes_none_of_them(delta: Delta) -> None:
    feed = MemoryFeed()
    first, second = delta(0, "ab"), delta(2, "cd")
    with feed.subscribe("t") as quick, feed.subscribe("t") as slow:
        feed.publish([first])
        seen = await quick.next(LONG_S)
        feed.publish([second])

        assert await drain(slow) == [delta(0, "abcd")]
        assert await drain(quick) == [second]
    assert seen is first
    assert (first, second) == (delta(0, "ab"), delta(2, "cd"))


async def test_a_watcher_that_does_not_look_is_told_that_it_lagged_once() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as slow, feed.subscribe("t") as quick:
        seen = []
        for sequence in range(1, PENDING_EVENTS_MAX + 2):
            feed.publish([step(sequence)])
            seen.append(await quick.next(LONG_S))

        with pytest.raises(Lagged):
            await slow.next(LONG_S)
        assert await drain(slow) == []
        feed.publish([step(1000)])
        assert await drain(slow) == [step(1000)]
        assert seen == [step(sequence) for sequence in range(1, PENDING_EVENTS_MAX + 2)]


@EITHER
async def test_text_that_nobody_reads_is_held_to_a_bound_whatever_stands_between(delta: Delta) -> None:
    feed = MemoryFeed()
    piece = "x" * (PENDING_TEXT_MAX // 8)
    with feed.subscribe("t") as subscription:
        for turn in range(1, 9):
            feed.publish([delta(0, piece, turn=turn), step(turn)])
        assert len(await drain(subscription)) == 16
        for turn in range(1, 100):
            feed.publish([delta(0, piece, turn=turn), step(turn)])
            assert sum(map(length, subscription._pending)) <= PENDING_TEXT_MAX

        with pytest.raises(Lagged):
            await subscription.next(LONG_S)
        assert await drain(subscription) == []
        feed.publish([delta(0, piece)])
        assert await drain(subscription) == [delta(0, piece)]


@EITHER
async def test_one_long_piece_is_kept(delta: Delta) -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        feed.publish([step(1), delta(0, "x" * (PENDING_TEXT_MAX + 1)), step(2)])
        assert [length(event) for event in await drain(subscription)] == [0, PENDING_TEXT_MAX + 1, 0]


async def test_as_many_events_as_may_wait_are_kept() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        feed.publish([step(sequence) for sequence in range(PENDING_EVENTS_MAX)])

        assert len(await drain(subscription)) == PENDING_EVENTS_MAX


@EITHER
async def test_live_text_makes_nobody_lag(delta: Delta) -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        for index in range(20 * PENDING_EVENTS_MAX):
            feed.publish([delta(index, "x")])

        (merged,) = await drain(subscription)
        assert length(merged) == 20 * PENDING_EVENTS_MAX


async def test_publishing_nothing_wakes_nobody() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        feed.publish([])
        assert await drain(subscription) == []


@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.booleans()), max_size=30))
async def test_however_slowly_text_is_read_it_is_all_there_in_order(pieces: list[tuple[str, bool]]) -> None:
    feed = MemoryFeed()
    read: list[TextDelta] = []
    offset = 0
    with feed.subscribe("t") as subscription:
        for text, reads in pieces:
            feed.publish([delta(offset, text)])
            offset += len(text.encode())
            if reads:
                read += [event.text_delta for event in await drain(subscription)]
        read += [event.text_delta for event in await drain(subscription)]

    assert "".join(piece.text for piece in read) == "".join(text for text, _ in pieces)
    at = 0
    for piece in read:
        assert piece.offset == at
        at += len(piece.text.encode())


async def test_a_nudge_says_that_the_journal_has_more_once_all_that_waits_is_read() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        feed.publish([step(1), delta(0, "live")])
        feed.nudge("t")

        assert await subscription.next(NOT_AT_ALL_S) == step(1)
        assert await subscription.next(NOT_AT_ALL_S) == delta(0, "live")
        with pytest.raises(Lagged):
            await subscription.next(NOT_AT_ALL_S)
        assert await subscription.next(NOT_AT_ALL_S) is None


async def test_a_nudge_wakes_a_watcher_that_waits() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        waiting = asyncio.create_task(subscription.next(LONG_S))
        await asyncio.sleep(0)
        feed.nudge("t")
        with pytest.raises(Lagged):
            await waiting


async def test_a_closed_feed_lets_everybody_read_what_waits_and_then_go() -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as early:
        feed.publish([step(1)])
        feed.close()
        assert await early.next(NOT_AT_ALL_S) == step(1)
        with pytest.raises(FeedClosedError):
            await early.next(NOT_AT_ALL_S)
    with feed.subscribe("t") as late, pytest.raises(FeedClosedError):
        await late.next(NOT_AT_ALL_S)

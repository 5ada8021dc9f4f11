"""What every feed does. A new adapter is one more entry in `feeds.ADAPTERS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.feed.base import Feed, FeedClosedError, Lagged
from agent_service.feed.live_reply import LiveReply
from agent_service.v1.task_event_pb2 import TaskEvent, TextDelta
from tests.contracts.feeds import ADAPTERS, LONG_S, NOT_AT_ALL_S, delta, drain, event_of, step, thought

# The two kinds of live text, which differ in nothing here.
EITHER = pytest.mark.parametrize("delta", [delta, thought])
Delta = Callable[..., TaskEvent]


@pytest.fixture(params=ADAPTERS)
def feed(request: pytest.FixtureRequest) -> Feed:
    return ADAPTERS[request.param]()


# ---- subscriptions


async def test_events_come_in_order_to_every_watcher(feed: Feed) -> None:
    with feed.subscribe("t") as one, feed.subscribe("t") as other:
        feed.publish([step(1), step(2)])
        feed.publish([step(3)])

        assert await drain(one) == await drain(other) == [step(1), step(2), step(3)]


async def test_a_watcher_sees_its_own_task_alone_and_only_what_comes_after_it(feed: Feed) -> None:
    feed.publish([step(1)])
    with feed.subscribe("t") as subscription:
        feed.publish([step(7, "another")])
        feed.publish([step(2)])

        assert await drain(subscription) == [step(2)]


async def test_a_watcher_that_waits_is_woken(feed: Feed) -> None:
    with feed.subscribe("t") as subscription:
        waiting = asyncio.create_task(subscription.next(LONG_S))
        await asyncio.sleep(0)
        feed.publish([step(1)])

        assert await event_of(waiting) == step(1)


async def test_silence_is_told_as_none(feed: Feed) -> None:
    with feed.subscribe("t") as subscription:
        assert await subscription.next(0.001) is None
        assert await subscription.next(NOT_AT_ALL_S) is None


async def test_a_watcher_that_stops_waiting_misses_nothing(feed: Feed) -> None:
    with feed.subscribe("t") as subscription:
        waiting = asyncio.create_task(subscription.next(LONG_S))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        feed.publish([step(1)])

        assert await event_of(subscription.next(LONG_S)) == step(1)


async def test_a_task_is_watched_while_anybody_watches_it(feed: Feed) -> None:
    assert "t" not in feed.watched()
    with feed.subscribe("t"):
        with feed.subscribe("t"):
            assert "t" in feed.watched()
            assert "another" not in feed.watched()
        assert "t" in feed.watched()
    assert "t" not in feed.watched()


@pytest.mark.parametrize(
    "later", [delta(2, "c", turn=2), delta(2, "c", try_number=2), delta(3, "c"), delta(0, "c"), step(1)]
)
async def test_pieces_that_do_not_join_stay_apart(feed: Feed, later: TaskEvent) -> None:
    with feed.subscribe("t") as subscription:
        feed.publish([delta(0, "ab"), later])

        assert await drain(subscription) == [delta(0, "ab"), later]


async def test_reasoning_and_text_do_not_join_and_keep_their_order(feed: Feed) -> None:
    pieces = [thought(0, "ab"), delta(0, "ab"), thought(2, "cd"), delta(2, "cd")]
    with feed.subscribe("t") as subscription:
        feed.publish(pieces)
        assert await drain(subscription) == pieces


@EITHER
async def test_an_event_between_two_pieces_keeps_them_apart(feed: Feed, delta: Delta) -> None:
    with feed.subscribe("t") as subscription:
        feed.publish([delta(0, "ab"), step(1), delta(2, "cd")])

        assert await drain(subscription) == [delta(0, "ab"), step(1), delta(2, "cd")]


async def test_publishing_nothing_wakes_nobody(feed: Feed) -> None:
    with feed.subscribe("t") as subscription:
        feed.publish([])
        assert await drain(subscription) == []


@pytest.mark.parametrize("adapter", ADAPTERS)
@given(pieces=st.lists(st.tuples(st.text(min_size=1, max_size=20), st.booleans()), max_size=30))
async def test_however_slowly_text_is_read_it_is_all_there_in_order(
    adapter: str, pieces: list[tuple[str, bool]]
) -> None:
    feed = ADAPTERS[adapter]()
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


async def test_a_notification_says_that_the_journal_has_more_once_all_that_waits_is_read(feed: Feed) -> None:
    with feed.subscribe("t") as subscription:
        feed.publish([step(1), delta(0, "live")])
        feed.notify("t")

        assert await event_of(subscription.next(NOT_AT_ALL_S)) == step(1)
        assert await event_of(subscription.next(NOT_AT_ALL_S)) == delta(0, "live")
        with pytest.raises(Lagged):
            await subscription.next(NOT_AT_ALL_S)
        assert await subscription.next(NOT_AT_ALL_S) is None


async def test_a_notification_wakes_a_watcher_that_waits(feed: Feed) -> None:
    with feed.subscribe("t") as subscription:
        waiting = asyncio.create_task(subscription.next(LONG_S))
        await asyncio.sleep(0)
        feed.notify("t")
        with pytest.raises(Lagged):
            await waiting


async def test_a_closed_feed_lets_everybody_read_what_waits_and_then_go(feed: Feed) -> None:
    with feed.subscribe("t") as early:
        feed.publish([step(1)])
        feed.close()
        assert await event_of(early.next(NOT_AT_ALL_S)) == step(1)
        with pytest.raises(FeedClosedError):
            await early.next(NOT_AT_ALL_S)
    with feed.subscribe("t") as late, pytest.raises(FeedClosedError):
        await late.next(NOT_AT_ALL_S)


async def test_a_frame_is_made_once_for_all_watchers_and_its_bytes_too(feed: Feed) -> None:
    with feed.subscribe("t") as one, feed.subscribe("t") as other:
        feed.publish([step(1)])
        frame = await one.next(LONG_S)
        same = await other.next(LONG_S)

    assert frame is not None
    assert same is not None
    assert frame is same
    assert frame.wire() is same.wire()


# ---- channels


async def test_a_channel_is_watched_while_anybody_watches_its_task(feed: Feed) -> None:
    early = feed.channel("t")
    assert not early.is_watched
    with feed.subscribe("t"):
        late = feed.channel("t")
        with feed.subscribe("t"):
            assert (early.is_watched, late.is_watched, feed.channel("another").is_watched) == (True, True, False)
        assert (early.is_watched, late.is_watched) == (True, True)
    assert (early.is_watched, late.is_watched) == (False, False)


async def test_what_a_channel_publishes_comes_to_the_watchers_of_its_task(feed: Feed) -> None:
    channel = feed.channel("t")
    channel.publish([step(1)])
    with feed.subscribe("t") as subscription, feed.subscribe("another") as another:
        channel.publish([step(2), step(3)])
        channel.publish([])
        assert (await drain(subscription), await drain(another)) == ([step(2), step(3)], [])


async def test_what_a_channel_publishes_after_its_end_still_comes_to_watchers(feed: Feed) -> None:
    channel = feed.channel("t")
    channel.close()
    channel.close()
    with feed.subscribe("t") as subscription:
        channel.publish([step(1)])
        assert await drain(subscription) == [step(1)]


async def test_a_snapshot_is_the_whole_text_behind_the_last_event_that_was_published(feed: Feed) -> None:
    channel = feed.channel("t")
    reply = channel.reply = LiveReply(attempt=3, turn=2, try_number=1)
    assert await feed.snapshot("t") is None
    channel.publish([step(7)])
    for piece in ("Grö", "ße ", "und"):
        reply.pieces.append(piece)
        assert await feed.snapshot("t") is not None
    frame = await feed.snapshot("t")
    assert frame is not None
    event = frame.event
    assert (event.task_id, event.sequence, event.attempt, event.HasField("create_time")) == ("t", 7, 3, True)
    assert event.text_delta == TextDelta(turn=2, try_number=1, text="Größe und")
    assert await feed.snapshot("another") is None


async def test_a_snapshot_may_be_taken_though_nobody_watches_and_wakes_no_watcher(feed: Feed) -> None:
    channel = feed.channel("t")
    channel.reply = LiveReply(1, 1, 1)
    with feed.subscribe("t") as subscription:
        channel.reply.pieces.append("so far")
        assert (await event_of(feed.snapshot("t"))) is not None
        assert await drain(subscription) == []


async def test_there_is_no_text_of_a_reply_or_of_an_attempt_that_has_ended(feed: Feed) -> None:
    first = feed.channel("t")
    first.reply = LiveReply(1, 1, 1)
    first.reply.pieces.append("lost")
    second = feed.channel("t")
    assert await feed.snapshot("t") is None
    second.reply = LiveReply(2, 1, 1)
    second.reply.pieces.append("now")
    first.close()
    frame = await feed.snapshot("t")
    assert frame is not None
    assert frame.event.text_delta.text == "now"
    second.reply = None
    assert await feed.snapshot("t") is None
    second.reply = LiveReply(2, 2, 1)
    second.reply.pieces.append("later")
    second.close()
    assert await feed.snapshot("t") is None

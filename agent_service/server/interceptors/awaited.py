"""Ends calls whose request does not arrive in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agent_service.server.call import Call, Context

Refuse = Callable[[Call], Awaitable[None]]


class AwaitedRequests:
    """Ends every call whose request has not arrived `timeout_s` after its headers. All calls share one timer: a timer
    per call would cost more than everything else in this class.
    """

    def __init__(self, timeout_s: float, refuse: Refuse) -> None:
        self._timeout_s = timeout_s
        self._refuse = refuse
        self._calls: dict[Context, Call] = {}  # the oldest first
        self._is_watched = False
        self._refusing: set[asyncio.Future[None]] = set()

    async def read(self, call: Call, context: Context) -> Any:
        """Return the request, or aio.EOF if the caller sends none.

        Raises:
            AbortError: the call was ended by the timeout.
        """
        self._calls[context] = call
        if not self._is_watched:
            self._watch(self._timeout_s)
        try:
            return await context.read()
        finally:
            self._calls.pop(context, None)

    def _watch(self, after_s: float) -> None:
        self._is_watched = True
        asyncio.get_running_loop().call_later(after_s, self._look)

    def _look(self) -> None:
        self._is_watched = False
        now = time.perf_counter()
        while self._calls:
            context, call = next(iter(self._calls.items()))
            left_s = call.began + self._timeout_s - now
            if left_s > 0:
                self._watch(left_s)
                return
            del self._calls[context]
            # From another asyncio task: a handler that is cancelled while it reads would lose the arriving message.
            refusing = asyncio.ensure_future(self._refuse(call))
            self._refusing.add(refusing)
            refusing.add_done_callback(self._refusing.discard)

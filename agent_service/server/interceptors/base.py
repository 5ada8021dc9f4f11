"""The interface of interceptors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Generic, TypeVar

from agent_service.server.call import Call

Token = TypeVar("Token")


class Interceptor(Generic[Token]):
    """Hooks around an RPC; a hook that a class does not override costs nothing.

    Hooks get the Call, never the request. An interceptor keeps its state of a call in a token: the result of `on_call`,
    or None without that hook. `on_call` is a function or a coroutine function: only the latter is awaited.
    """

    def on_call(self, call: Call) -> Token | Awaitable[Token]:
        """Handle a new call: its headers have arrived, its request has not been decoded. Raise an AgentServiceError to
        refuse it. If this hook raises, the other hooks of the interceptor do not run for this call.
        """
        raise NotImplementedError

    async def on_error(self, token: Token, call: Call) -> None:
        """Handle a call that ends with `call.error`, an AgentServiceError. The hook may replace the error.

        Does not run if the caller disconnected.
        """

    def on_end(self, token: Token, call: Call) -> None:
        """Handle the end of a call, with `call.code`, and with `call.error` unless the code is OK. The status has not
        been sent. Runs once for every call whose `on_call` did not raise.
        """

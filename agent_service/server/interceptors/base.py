"""What an interceptor is here."""

from __future__ import annotations

from typing import Generic, TypeVar

from agent_service.server.call import Call

Token = TypeVar("Token")


class Interceptor(Generic[Token]):
    """Hooks around an RPC; one that a class does not override costs nothing.

    Hooks get the Call, never the request: what is in it is the service's business. What an interceptor keeps for the
    length of a call is its token: what `on_call` returned, or None without that hook.
    """

    async def on_call(self, call: Call) -> Token:
        """The headers are in, the request has not been read. Raise an AgentServiceError to refuse the call.

        An interceptor that raises has not begun: its other hooks do not run for this call.
        """
        raise NotImplementedError

    async def on_error(self, token: Token, call: Call) -> None:
        """The call ends with `call.error`, an AgentServiceError, and may replace it by another.

        Does not run where the caller went away.
        """

    def on_end(self, token: Token, call: Call) -> None:
        """The call ends with `call.code`, and `call.error` unless that is OK; the status has not been sent.

        Runs once for every call for which this interceptor has begun.
        """

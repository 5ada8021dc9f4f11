"""What an interceptor is here."""

from __future__ import annotations

from agent_service.server.call import Call


class Interceptor:
    """Hooks around an RPC; one that a class does not override costs nothing.

    Hooks see a Call, never a request: what is in it is the service's business.
    """

    def on_begin(self, call: Call) -> None:
        """The headers are in, and the peer is known; `on_end` will follow."""

    async def on_call(self, call: Call) -> None:
        """The request has not been read. Raise an AgentServiceError to refuse the call."""

    async def on_error(self, call: Call) -> None:
        """The call ends with `call.error`, an AgentServiceError of the service, which may be replaced by another.

        Not told of a caller that went away.
        """

    def on_end(self, call: Call) -> None:
        """The call ends; `call.error` says how. Runs once for every call that began, refused ones included."""

"""Gives every call an id: the caller's `x-request-id`, or a new one. For correlation only, not for idempotency."""

from __future__ import annotations

from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor
from agent_service.service.ids import Ids
from agent_service.text.ids import is_id


class RequestId(Interceptor[None]):
    """Takes or generates the id, and sends it back."""

    def __init__(self) -> None:
        self._ids = Ids()

    def on_call(self, call: Call) -> None:
        given = call.metadata.get("x-request-id", "")
        # An id that breaks the bounds is replaced, not refused: it must not fail the call.
        call.request_id = given if is_id(given) else self._ids.request_id()
        call.reply_metadata.append(("x-request-id", call.request_id))

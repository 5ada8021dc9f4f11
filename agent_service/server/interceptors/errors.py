"""Gives a failed call its status code, and logs what was a fault of ours."""

from __future__ import annotations

from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.status import code_of


class Errors(Interceptor):
    """Sets `call.code` from `call.error`."""

    def on_end(self, call: Call) -> None:
        if call.error is not None:
            call.code = code_of(call.error)

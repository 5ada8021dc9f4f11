"""Logs one line for every RPC when it has ended."""

from __future__ import annotations

from agent_service.observe.log import EventLog
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor


class AccessLog(Interceptor[None]):
    """Calls of public methods are logged at DEBUG, all others at INFO."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def on_end(self, token: None, call: Call) -> None:
        level = "DEBUG" if call.method.is_public else "INFO"
        if not self._log.is_enabled(level):
            return
        self._log.write(
            level,
            "rpc",
            {
                "request_id": call.request_id,
                "idempotency_key": call.idempotency_key or None,
                "task_id": call.task_id,
                "tenant": call.principal.tenant if call.principal else None,
                "key": call.principal.key_id if call.principal else None,
                "method": call.method.path,
                "code": call.code_name,
                "reason": call.error.reason_name if call.error else None,
                "duration_ms": round(call.took_s * 1000, 2),
                "peer": call.peer,
            },
        )

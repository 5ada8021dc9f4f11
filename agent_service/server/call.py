"""The state of one RPC, shared by the interceptors and the servicer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import grpc

from agent_service.errors import AgentServiceError
from agent_service.keys.base import Principal
from agent_service.limits.base import LimitStatus
from agent_service.server.methods import Method
from agent_service.server.status import code_of
from agent_service.server.transport.base import Context
from agent_service.service.watching.watcher import Outlet

_CODES: Mapping[int, grpc.StatusCode] = MappingProxyType({code.value[0]: code for code in grpc.StatusCode})

_OK = grpc.StatusCode.OK


class Call:
    """The state of a call; the interceptors and the servicer add to it.

    `metadata` has the first value of each text key, `repeated` the further values with their keys, `identities` the
    identities in the client's verified certificate. `reply_metadata` is sent with the initial metadata, or with the
    trailers of an error, and so is `limit`, the tightest of the limits that were charged. `error`, `code` and
    `took_s` are set when the call ends. `context` is None after the call has ended with an error.
    """

    __slots__ = (
        "began",
        "code",
        "context",
        "error",
        "idempotency_key",
        "identities",
        "limit",
        "metadata",
        "method",
        "peer",
        "principal",
        "repeated",
        "reply_metadata",
        "request_id",
        "task_id",
        "took_s",
    )

    def __init__(self, method: Method, context: Context) -> None:
        self.method = method
        self.context: Context | None = context
        self.began = time.perf_counter()
        # Read once, here: after the end of the call grpcio 1.81 and later crash (docs/adr/0002).
        self.peer: str = context.peer()
        metadata: dict[str, str] = {}
        repeated: list[tuple[str, str]] = []
        for key, value in context.invocation_metadata() or ():
            if isinstance(value, str) and metadata.setdefault(key, value) is not value:
                repeated.append((key, value))
        self.metadata: Mapping[str, str] = metadata
        self.repeated: Sequence[tuple[str, str]] = repeated
        self.request_id = ""
        self.identities: Sequence[str] = ()
        self.principal: Principal | None = None
        self.idempotency_key = ""
        self.task_id = ""
        self.limit: LimitStatus | None = None
        self.reply_metadata: list[tuple[str, str]] = []
        self.error: AgentServiceError | None = None
        self.code = _OK
        self.took_s = 0.0

    @property
    def caller(self) -> Principal:
        """The authenticated caller."""
        assert self.principal is not None, "auth comes before every method of ours"
        return self.principal

    @property
    def code_name(self) -> str:
        """The name of the code. An enum's own `name` costs more than the rest of a line of the log."""
        return "OK" if self.code is _OK else self.code.name

    def left_s(self) -> float | None:
        """Return the seconds until the caller's deadline; None if it set none."""
        assert self.context is not None
        return self.context.time_remaining()

    def outlet(self) -> Outlet | None:
        """Return the wire for frames that need not wait; None if the transport has none."""
        context: Any = self.context
        return context if hasattr(context, "is_ready") else None

    def sent_code(self) -> grpc.StatusCode:
        """Return the code of the status that was sent. The context has an int if `abort` was called with one."""
        assert self.context is not None
        code: Any = self.context.code()
        return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.UNKNOWN)

    def fail(self, error: AgentServiceError) -> None:
        """Set the error that the call ends with."""
        self.error = error
        self.code = code_of(error)

    async def abort(self, code: grpc.StatusCode, text: str, metadata: Sequence[tuple[str, str | bytes]]) -> NoReturn:
        """Send the status that ends the call.

        Raises:
            AbortError: always.
        """
        assert self.context is not None
        await self.context.abort(code, text, tuple(metadata))
        raise AssertionError  # mypy does not know

    async def send_initial_metadata(self, task_id: str = "") -> None:
        """Send the headers of the reply now; with a task's id they tell the client not to repeat the call."""
        assert self.context is not None
        if task_id:
            self.task_id = task_id
            self.reply_metadata.append(("x-task-id", task_id))
        await self.context.send_initial_metadata(self.headers())

    def limited_by(self, status: LimitStatus | None) -> None:
        """Record the state of a limit that was charged. The one with the least remaining is reported."""
        if status is not None and (self.limit is None or status.remaining < self.limit.remaining):
            self.limit = status

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers of the reply. `ratelimit-reset` is in whole seconds, rounded up."""
        if self.limit is None:
            return tuple(self.reply_metadata)
        return (
            *self.reply_metadata,
            ("ratelimit-limit", str(self.limit.limit)),
            ("ratelimit-remaining", str(self.limit.remaining)),
            ("ratelimit-reset", str(math.ceil(self.limit.reset_s))),
        )

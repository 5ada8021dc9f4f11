"""One RPC, as the interceptors and the servicer see it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import grpc
from grpc import aio

from agent_service.errors import AgentServiceError
from agent_service.keys.base import Principal
from agent_service.limits.base import LimitStatus, Reservation
from agent_service.observe.trace import NO_SPAN, Span
from agent_service.server.peer import address

Context = aio.ServicerContext[Any, Any]
SERVICE = "agent_service.v1.AgentService"
PUBLIC_PREFIXES = ("/grpc.health.v1.Health/", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha.")
# Calls that stay open until something happens; the end of their task, and of their connection, is theirs.
OPEN = frozenset(
    (
        f"/{SERVICE}/RunTask",
        f"/{SERVICE}/StreamTask",
        f"/{SERVICE}/WatchTask",
        f"/{SERVICE}/ToolInvoke",
        "/grpc.health.v1.Health/Watch",
    )
)


_CODES: Mapping[int, grpc.StatusCode] = MappingProxyType({code.value[0]: code for code in grpc.StatusCode})


@dataclass(slots=True)
class Call:
    """What is known of a call, growing as it goes through the interceptors.

    `metadata` has the first value of each text key, `repeated` the further ones with their keys, `identities` those in
    the client's certificate, which has been verified. `reply_metadata` goes out with the initial metadata, or with the
    trailers of an error, and so does `limit`, the tightest of the limits that were asked. `charged` is what it took of
    the limits at the edge. `is_known` says that the server has the method; `error` and `code` are set when it ends.
    `span` is recorded where the call is traced.
    """

    method: str
    metadata: Mapping[str, str]
    began: float = field(default_factory=time.perf_counter)
    request_id: str = ""
    principal: Principal | None = None
    charged: Reservation | None = None
    task_id: str = ""
    idempotency_key: str = ""
    peer: str = ""
    identities: Sequence[str] = ()
    context: Context | None = None
    limit: LimitStatus | None = None
    reply_metadata: list[tuple[str, str]] = field(default_factory=list)
    is_known: bool = False
    repeated: Sequence[tuple[str, str]] = ()
    span: Span = NO_SPAN
    error: AgentServiceError | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    # Gives back what admission gave; whoever calls it sets it to None.
    leave: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        """The method as logs and metrics call it: of what callers make up, nothing is repeated."""
        return self.method if self.is_known else "unknown/unknown"

    @property
    def is_ours(self) -> bool:
        """Whether it is for our own service: health and reflection are open to all."""
        return not self.method.startswith(PUBLIC_PREFIXES)

    @property
    def is_open(self) -> bool:
        """Whether it may stay open for long; any other is answered at once."""
        return self.method in OPEN

    @property
    def peer_address(self) -> str:
        """The caller's address, the same for all of its connections."""
        return address(self.peer)

    @property
    def caller(self) -> Principal:
        """The authenticated caller."""
        assert self.principal is not None, "auth comes before every method of ours"
        return self.principal

    def bind(self, context: Context) -> None:
        """The call begins. What grpc knows of the peer is read here, once: afterwards, in a call that has ended,
        grpcio 1.81 and later crash (docs/adr/0002).
        """
        self.context = context
        self.peer = context.peer()

    def left_s(self) -> float | None:
        """Seconds until the caller's deadline; None if it set none."""
        assert self.context is not None
        return self.context.time_remaining()

    def sent_code(self) -> grpc.StatusCode:
        """The code of the status that was sent. The context has an int where `abort` was given one."""
        assert self.context is not None
        code: Any = self.context.code()
        return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.UNKNOWN)

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
        """One more limit was asked: the one with the least remaining is told."""
        if status is not None and (self.limit is None or status.remaining < self.limit.remaining):
            self.limit = status

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the caller is told beside the reply. `ratelimit-reset` is in whole seconds, rounded up."""
        if self.limit is None:
            return tuple(self.reply_metadata)
        return (
            *self.reply_metadata,
            ("ratelimit-limit", str(self.limit.limit)),
            ("ratelimit-remaining", str(self.limit.remaining)),
            ("ratelimit-reset", str(math.ceil(self.limit.reset_s))),
        )


_current: ContextVar[Call] = ContextVar("call")


def set_current_call(call: Call) -> None:
    """Make it the call of this RPC's context."""
    _current.set(call)


def current_call() -> Call:
    """The call that this code runs for."""
    return _current.get()

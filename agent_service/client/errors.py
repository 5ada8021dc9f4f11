"""A call that was refused or broke, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

UNREACHABLE = ("connections to all backends failing", "errors resolving", "failed to connect", "DNS resolution failed")
CUT_OFF = "Received RST_STREAM"  # as nginx ends what a server left unfinished that died


@dataclass(eq=False)
class CallError(Exception):
    """What the status of a call says.

    `code` is the gRPC code's name, `reason` the service's own (`API_KEY_INVALID`), empty where the service itself did
    not answer. `violations` are pairs of a field's path and what is wrong with it. `retry_after_s` is when the same
    call may succeed; None where the service did not say. The client does not wait for that itself: retries that
    callers do not know of multiply. `task_id` is the task that the call had begun, which may go on: `watch` shows it.
    """

    code: str
    message: str
    reason: str = ""
    request_id: str = ""
    retry_after_s: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    task_id: str = ""

    @property
    def is_interruption(self) -> bool:
        """Return whether the server went away, or is about to: the same call again finds it back, or another one."""
        is_cut_off = self.code == "INTERNAL" and not self.reason and self.message.startswith(CUT_OFF)
        # grpc ends so what arrives while a server stops. A call that the caller cancels raises no error of this kind.
        is_turned_away = self.code == "CANCELLED" and not self.reason
        return is_cut_off or is_turned_away or (self.code == "UNAVAILABLE" and self.reason in ("", "DRAINING"))

    @property
    def is_unreachable(self) -> bool:
        """Return whether no connection could be made, as to an address where nobody listens. grpc says it in words
        alone.
        """
        return self.code == "UNAVAILABLE" and self.message.startswith(UNREACHABLE)

    def __str__(self) -> str:
        told = f"{self.code} {self.reason}".rstrip() + f": {self.message}"
        return f"{told} (request {self.request_id})" if self.request_id else told

    @classmethod
    def of(cls, error: grpc.RpcError) -> CallError:
        """Read a grpc error: its code, its text, and the details that came with it."""
        assert isinstance(error, grpc.aio.AioRpcError)
        trailers = dict(error.trailing_metadata() or ())
        headers = dict(error.initial_metadata() or ())
        encoded = trailers.get("grpc-status-details-bin")
        status = Status.FromString(encoded) if isinstance(encoded, bytes) else Status()
        info, request = details.ErrorInfo(), details.RequestInfo()
        retry, bad = details.RetryInfo(), details.BadRequest()
        for packed in status.details:
            for detail in (info, request, retry, bad):
                packed.Unpack(detail)
        delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        return cls(
            code=error.code().name,
            message=error.details() or "",
            reason=info.reason,
            request_id=request.request_id,
            retry_after_s=delay if retry.HasField("retry_delay") else None,
            violations=tuple((one.field, one.description) for one in bad.field_violations),
            metadata=dict(info.metadata),
            task_id=str(headers.get("x-task-id") or trailers.get("x-task-id") or ""),
        )

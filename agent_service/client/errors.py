"""The error of a call that was refused or broke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

UNREACHABLE = ("connections to all backends failing", "errors resolving", "failed to connect", "DNS resolution failed")
CUT_OFF = "Received RST_STREAM"  # sent by nginx for the open calls of a server that died


@dataclass(eq=False)
class CallError(Exception):
    """The status of a failed call.

    `code` is the name of the gRPC code, `reason` the service's own (`API_KEY_INVALID`), empty if the service itself did
    not answer. `violations` are pairs of a field's path and its problem. `retry_after_s` is the time after which the
    same call may succeed; None if the service gave none. The client does not wait for that itself, because retries on
    several levels multiply. `task_id` is the task that the call began, which may continue: `watch` shows it.
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
        """Return whether the server stopped, or is about to: the same call may reach it later, or another server."""
        is_cut_off = self.code == "INTERNAL" and not self.reason and self.message.startswith(CUT_OFF)
        # grpc ends calls like this that arrive while a server stops. A call that the caller cancels raises no error of
        # this kind.
        is_turned_away = self.code == "CANCELLED" and not self.reason
        return is_cut_off or is_turned_away or (self.code == "UNAVAILABLE" and self.reason in ("", "DRAINING"))

    @property
    def is_unreachable(self) -> bool:
        """Return whether no connection could be made, as to an address without a listener. grpc reports that only in
        the text of its errors.
        """
        return self.code == "UNAVAILABLE" and self.message.startswith(UNREACHABLE)

    def __str__(self) -> str:
        text = f"{self.code} {self.reason}".rstrip() + f": {self.message}"
        return f"{text} (request {self.request_id})" if self.request_id else text

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
            violations=tuple((each.field, each.description) for each in bad.field_violations),
            metadata=dict(info.metadata),
            task_id=str(headers.get("x-task-id") or trailers.get("x-task-id") or ""),
        )

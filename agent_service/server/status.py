"""The only table from errors to gRPC statuses, and the encoding of a status."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from types import MappingProxyType

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc import aio

from agent_service import errors
from agent_service.limits.base import LimitStatus
from agent_service.text.times import duration_of_nanos
from agent_service.v1.error_reason_pb2 import ERROR_REASON_BUDGET_EXHAUSTED

DOMAIN = "agent-service"
# Clients reject trailers above 8 KiB. There the details may be in base64, a third longer, and the text takes three
# bytes for each byte that is not printable ASCII. The rest is for the headers with ids and limits.
DETAILS_BYTES_MAX = 4096
TEXT_BYTES_MAX = 1024
METADATA_VALUE_LENGTH_MAX = 128
VIOLATIONS_MAX = 32

CODES: Mapping[type[errors.AgentServiceError], grpc.StatusCode] = MappingProxyType(
    {
        errors.AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
        errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
        errors.ValidationError: grpc.StatusCode.INVALID_ARGUMENT,
        errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
        errors.ConflictError: grpc.StatusCode.ALREADY_EXISTS,
        errors.StateError: grpc.StatusCode.FAILED_PRECONDITION,
        errors.RateLimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.OverloadedError: grpc.StatusCode.UNAVAILABLE,
        errors.DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
        errors.CanceledError: grpc.StatusCode.CANCELLED,
        errors.UnimplementedError: grpc.StatusCode.UNIMPLEMENTED,
        errors.InternalError: grpc.StatusCode.INTERNAL,
        # Failures of tasks and results of tools: as the status of a call they are a bug of the service.
        errors.TaskLimitError: grpc.StatusCode.INTERNAL,
        errors.LLMError: grpc.StatusCode.INTERNAL,
        errors.OutputError: grpc.StatusCode.INTERNAL,
        errors.ToolError: grpc.StatusCode.INTERNAL,
    }
)


def code_of(error: errors.AgentServiceError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return CODES[type(error)]


def as_domain_error(error: BaseException) -> errors.AgentServiceError:
    """Return the error as the caller may see it: domain errors unchanged, others as InternalError without text."""
    if isinstance(error, asyncio.CancelledError | aio.InternalError):
        # aio.InternalError is gRPC's: a message could not be sent, because the caller disconnected.
        return errors.CanceledError()
    if isinstance(error, errors.AgentServiceError) and code_of(error) is not grpc.StatusCode.INTERNAL:
        return error
    return errors.InternalError()


def status_text(error: errors.AgentServiceError) -> str:
    """Return the message of the status, at most TEXT_BYTES_MAX long in its percent-encoded form.

    It neither begins nor ends with a space: RFC 9113, section 8.2.1, calls such a header malformed, and strict clients
    and proxies close the connection with all its calls.
    """
    text = error.bounded_message.strip(" ")
    if text.isascii() and text.isprintable() and "%" not in text:
        return text[:TEXT_BYTES_MAX].rstrip(" ")
    length = 0
    for index, character in enumerate(text):
        length += 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if length > TEXT_BYTES_MAX:
            return text[:index].rstrip(" ")
    return text


def limit_of(error: errors.AgentServiceError) -> LimitStatus | None:
    """Return the state of the limit that an error reports: nothing remains until `retry_after_s`. None for errors that
    are not about a limit.
    """
    if not isinstance(error, errors.RateLimitError):
        return None
    return LimitStatus(error.rule, error.limit, 0, error.retry_after_s or 0.0)


def trailers(error: errors.AgentServiceError, request_id: str) -> list[tuple[str, str | bytes]]:
    """Return the trailing metadata of an error: the rich status, and the retry hints for proxies and clients."""
    metadata: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", rich_status(error, request_id))]
    if error.retry_after_s is not None:
        metadata.append(("retry-after", str(math.ceil(error.retry_after_s))))
        metadata.append(("grpc-retry-pushback-ms", str(math.ceil(error.retry_after_s * 1000))))
    return metadata


def rich_status(error: errors.AgentServiceError, request_id: str) -> bytes:
    """Return a serialised `google.rpc.Status` with the details of the error, at most DETAILS_BYTES_MAX long."""
    code: int = code_of(error).value[0]
    status = Status(code=code, message=error.bounded_message[:256])
    metadata = {key: value[:METADATA_VALUE_LENGTH_MAX] for key, value in error.metadata.items()}
    info = details.ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=metadata)
    _add(status, info)
    _add(status, details.RequestInfo(request_id=request_id))
    if error.retry_after_s is not None:
        _add(status, details.RetryInfo(retry_delay=duration_of_nanos(math.ceil(error.retry_after_s * 1e9))))
    if isinstance(error, errors.RateLimitError):
        kind = "budget" if error.reason == ERROR_REASON_BUDGET_EXHAUSTED else "rule"
        quota = details.QuotaFailure.Violation(
            subject=error.subject[:METADATA_VALUE_LENGTH_MAX], description=f"{kind} {error.rule}"[:256]
        )
        _add(status, details.QuotaFailure(violations=[quota]))
    elif isinstance(error, errors.StateError):
        subject = next(iter(metadata.values()), "")
        failed = details.PreconditionFailure.Violation(
            type=error.reason_name, subject=subject, description=error.bounded_message[:256]
        )
        _add(status, details.PreconditionFailure(violations=[failed]))
    elif isinstance(error, errors.ValidationError) and error.violations:
        _add(status, _bad_request(error, DETAILS_BYTES_MAX - status.ByteSize() - 64))
    if status.ByteSize() > DETAILS_BYTES_MAX:
        del status.details[-1]  # the last detail repeats information of the others
    serialized: bytes = status.SerializeToString()
    return serialized


def _bad_request(error: errors.ValidationError, bytes_max: int) -> details.BadRequest:
    """Return the detail with as many violations as fit."""
    bad = details.BadRequest()
    for violation in error.violations[:VIOLATIONS_MAX]:
        bad.field_violations.add(field=violation.field[:128], description=violation.description[:256])
        if bad.ByteSize() > bytes_max:
            del bad.field_violations[-1]
            break
    return bad


def _add(status: Status, detail: Message) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)

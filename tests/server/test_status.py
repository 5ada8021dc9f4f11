"""The one table from errors to statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc import aio

from agent_service import errors
from agent_service.server.status import CODES, as_domain_error, code_of, rich_status, trailers
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.error_reason_pb2 import ErrorReason


def subclasses(base: type[errors.AgentServiceError]) -> Iterator[type[errors.AgentServiceError]]:
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from subclasses(child)


def unpacked(error: errors.AgentServiceError, kind: Any) -> Any:
    status = Status.FromString(rich_status(error, "r-1"))
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    raise AssertionError(f"no {kind}")


def test_every_error_of_the_tree_has_a_code() -> None:
    assert set(subclasses(errors.AgentServiceError)) == set(CODES)


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for error in subclasses(errors.AgentServiceError):
        assert f"── {error.__name__} " in errors.__doc__


def test_every_reason_but_the_unspecified_is_documented_in_the_proto_with_what_carries_it() -> None:
    lines = Path("protos/agent_service/v1/error_reason.proto").read_text().splitlines()
    for name in ErrorReason.DESCRIPTOR.values_by_name:
        at = next(index for index, line in enumerate(lines) if line.strip().startswith(f"{name} = "))
        assert lines[at - 1].strip().startswith("//"), name


def test_every_reason_is_used_by_the_code() -> None:
    source = "\n".join(path.read_text() for path in Path("agent_service").rglob("*.py") if "v1" not in path.parts)
    unused = [
        name
        for name in ErrorReason.DESCRIPTOR.values_by_name
        if name not in source and not name.endswith("_UNSPECIFIED")
    ]
    assert unused == []


def test_an_error_tells_its_reason_domain_and_request() -> None:
    error = errors.NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, "no such task", metadata={"task_id": "t"})
    info = unpacked(error, details.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == ("TASK_NOT_FOUND", "agent-service", {"task_id": "t"})
    assert unpacked(error, details.RequestInfo).request_id == "r-1"


def test_a_rate_limit_tells_the_exact_wait_and_the_rule() -> None:
    error = errors.RateLimitError(
        reasons.ERROR_REASON_RATE_LIMITED_CALLS,
        "too many",
        rule="default",
        limit=1,
        subject="tenant:a",
        retry_after_s=1.2345,
    )
    retry = unpacked(error, details.RetryInfo).retry_delay
    assert (retry.seconds, retry.nanos) == (1, 234_500_000)
    assert "default" in unpacked(error, details.QuotaFailure).violations[0].description
    plain = dict(trailers(error, "r-1"))
    assert (plain["retry-after"], plain["grpc-retry-pushback-ms"]) == ("2", "1235")


def test_a_state_error_tells_the_precondition() -> None:
    error = errors.StateError(reasons.ERROR_REASON_COST_ABOVE_LIMIT, "never", metadata={"rule": "default"})
    assert unpacked(error, details.PreconditionFailure).violations[0].type == "COST_ABOVE_LIMIT"


def test_all_violations_are_told_at_once_and_details_stay_under_4_kib() -> None:
    few = errors.ValidationError([errors.FieldViolation("a", "is wrong"), errors.FieldViolation("b", "too")])
    assert [one.field for one in unpacked(few, details.BadRequest).field_violations] == ["a", "b"]
    many = errors.ValidationError([errors.FieldViolation("é" * 500, "ü" * 900) for _ in range(100)])
    assert len(rich_status(many, "r" * 128)) <= 4096
    assert len(unpacked(many, details.BadRequest).field_violations) >= 2


def test_a_message_is_cut_at_1_kib_between_code_points() -> None:
    error = errors.NotFoundError(reasons.ERROR_REASON_TASK_NOT_FOUND, "é" * 1000)
    assert len(error.bounded_message.encode()) <= 1024
    assert set(error.bounded_message) == {"é"}


@pytest.mark.parametrize("error", [ValueError("CANARY"), RuntimeError("CANARY"), errors.ToolError("CANARY")])
def test_what_the_table_does_not_know_is_internal_and_keeps_its_text(error: Exception) -> None:
    told = as_domain_error(error)
    assert code_of(told) is grpc.StatusCode.INTERNAL
    assert "CANARY" not in told.message


def test_a_cancellation_is_a_cancellation() -> None:
    assert code_of(as_domain_error(asyncio.CancelledError())) is grpc.StatusCode.CANCELLED


def test_what_could_not_be_sent_to_a_caller_who_has_gone_is_no_fault_of_ours() -> None:
    assert code_of(as_domain_error(aio.InternalError("Failed execute_batch"))) is grpc.StatusCode.CANCELLED

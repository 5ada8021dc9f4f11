"""Builds requests from plain values."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.task_pb2 import (
    ON_DISCONNECT_CANCEL,
    ON_DISCONNECT_DETACH,
    Approve,
    Deny,
    InputAnswer,
    RunAgain,
)


class RunOptions(TypedDict, total=False):
    """Options of a task: `timeout_s` in seconds; `request_id` is generated if it is not given; a `detached` task
    continues when its caller disconnects; `tokens_max` and `cost_nanos_max`, in billionths of the currency unit, are
    its budget; `output_schema` is a JSON Schema that the answer must fit.
    """

    agent: str
    session_id: str
    request_id: str
    timeout_s: float | None
    labels: Mapping[str, str] | None
    detached: bool
    tokens_max: int
    cost_nanos_max: int
    output_schema: Mapping[str, Any] | None


class UsageOptions(TypedDict, total=False):
    """Filter and grouping of usage: `since` and `until` are whole hours, in UTC unless they have a zone; `bucket` is
    `hour`, `day` or `total`; `by` any of `tenant`, `agent`, `model`. `tenant` `*` means all.
    """

    tenant: str
    agent: str
    model: str
    since: datetime | None
    until: datetime | None
    bucket: Literal["hour", "day", "total"]
    by: Sequence[str]


def run_request(task: str, **options: Unpack[RunOptions]) -> pb.RunTaskRequest:
    """Return the request to run a task."""
    return pb.RunTaskRequest(
        task=task,
        agent=options.get("agent", ""),
        session_id=options.get("session_id", ""),
        request_id=options.get("request_id") or new_request_id(),
        timeout=duration(options.get("timeout_s")),
        labels=options.get("labels"),
        on_disconnect=ON_DISCONNECT_DETACH if options.get("detached") else ON_DISCONNECT_CANCEL,
        budget=_budget(options.get("tokens_max", 0), options.get("cost_nanos_max", 0)),
        output_schema=struct(options.get("output_schema")),
    )


def usage_request(**wanted: Unpack[UsageOptions]) -> pb.GetUsageRequest:
    """Return the request for usage."""
    return pb.GetUsageRequest(
        tenant=wanted.get("tenant", ""),
        agent=wanted.get("agent", ""),
        model=wanted.get("model", ""),
        start_time=_timestamp(wanted.get("since")),
        end_time=_timestamp(wanted.get("until")),
        bucket=pb.UsageBucket.Value(f"USAGE_BUCKET_{wanted.get('bucket', 'total').upper()}"),
        group_by=[pb.UsageGroup.Value(f"USAGE_GROUP_{group.upper()}") for group in wanted.get("by", ())],
    )


def tool_request(
    name: str, inputs: Mapping[str, Any] | str | None, timeout_s: float | None, request_id: str
) -> pb.ToolInvokeRequest:
    """Return the request of a tool call."""
    text = inputs if isinstance(inputs, str) else json.dumps(dict(inputs or {}))
    made = request_id or new_request_id()
    return pb.ToolInvokeRequest(tool_name=name, inputs_json=text, timeout=duration(timeout_s), request_id=made)


def new_request_id() -> str:
    """Return a unique request_id."""
    return uuid.uuid4().hex


def struct(value: Mapping[str, Any] | None) -> Struct | None:
    """Return a JSON object as a Struct."""
    if value is None:
        return None
    made = Struct()
    made.update(value)
    return made


def duration(seconds: float | None) -> Duration | None:
    """Return seconds as a Duration."""
    if seconds is None:
        return None
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e9))
    return made


def _budget(tokens: int, cost_nanos: int) -> pb.Budget | None:
    return pb.Budget(tokens=tokens, cost_nanos=cost_nanos) if tokens or cost_nanos else None


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    made = Timestamp()
    made.FromDatetime(time)
    return made


def approve() -> InputAnswer:
    """Allow the tool call."""
    return InputAnswer(approve=Approve())


def deny(comment: str = "") -> InputAnswer:
    """Deny the tool call; the model reads the comment."""
    return InputAnswer(deny=Deny(comment=comment))


def run_again() -> InputAnswer:
    """Run the interrupted call once more."""
    return InputAnswer(run_again=RunAgain())


def result(output: Any) -> InputAnswer:
    """Report that the interrupted call took effect, with its result, which may be any JSON value."""
    return InputAnswer(output_json=json.dumps(output))


def failure(message: str) -> InputAnswer:
    """Report that the interrupted call took no effect; the model reads the reason."""
    return InputAnswer(error_message=message)


def reply(message: str) -> InputAnswer:
    """Answer the agent's question."""
    return InputAnswer(message=message)

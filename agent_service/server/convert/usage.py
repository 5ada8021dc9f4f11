"""Converts GetUsage between messages and plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.errors import FieldViolation, ValidationError
from agent_service.journal.usage import HOUR_S
from agent_service.server.convert.tasks import validated
from agent_service.service.requests import UsageInput
from agent_service.store.usage import UsageRow
from agent_service.v1 import agent_service_pb2 as pb

HOURS: Mapping[int, int] = MappingProxyType(
    {
        pb.USAGE_BUCKET_UNSPECIFIED: 0,
        pb.USAGE_BUCKET_TOTAL: 0,
        pb.USAGE_BUCKET_DAY: 24,
        pb.USAGE_BUCKET_HOUR: 1,
    }
)
GROUPS: Mapping[int, str] = MappingProxyType(
    {
        pb.USAGE_GROUP_TENANT: "tenant",
        pb.USAGE_GROUP_AGENT: "agent",
        pb.USAGE_GROUP_MODEL: "model",
    }
)


def usage_input(request: pb.GetUsageRequest) -> UsageInput:
    """Return the validated values of a request.

    Raises:
        ValidationError: with every violation.
    """
    violations = [
        FieldViolation(f"group_by[{index}]", "must be TENANT, AGENT or MODEL")
        for index, group in enumerate(request.group_by)
        if group not in GROUPS
    ]
    if request.bucket not in HOURS:
        violations.append(FieldViolation("bucket", "must be TOTAL, DAY or HOUR"))
    values: dict[str, Any] = {"tenant": request.tenant, "agent": request.agent, "model": request.model}
    for field in ("start_time", "end_time"):
        if request.HasField(field):
            time: Timestamp = getattr(request, field)
            values[field] = time.seconds
            if time.nanos or time.seconds % HOUR_S:
                violations.append(FieldViolation(field, "must be a whole hour UTC"))
    if violations:
        raise ValidationError(violations)
    values["bucket_hours"] = HOURS[request.bucket]
    values["group_by"] = frozenset(GROUPS[group] for group in request.group_by)
    return validated(UsageInput, values, "")


def usage_response(rows: Iterable[UsageRow], wanted: UsageInput) -> pb.GetUsageResponse:
    """Return the response with these rows."""
    response = pb.GetUsageResponse()
    for row in rows:
        added = response.rows.add(tenant=row.tenant, agent=row.agent, model=row.model, **row.amounts._asdict())
        if wanted.bucket_hours:
            added.start_time.seconds = row.hour * HOUR_S
    return response

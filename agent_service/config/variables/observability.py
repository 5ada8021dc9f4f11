"""Logs and metrics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent_service.config.values import valid_host
from agent_service.config.variables.field_types import Port, Variables


class ObservabilityVariables(Variables):
    """Logs and metrics."""

    log_format: Literal["json", "console"] = Field(
        default="json",
        alias="LOG_FORMAT",
        title="Observability",
        description="The format of log lines: json for machines, console for people.",
    )
    metrics_enabled: bool = Field(
        default=True,
        alias="METRICS_ENABLED",
        title="Observability",
        description="Whether Prometheus metrics are served.",
    )
    metrics_port: Port = Field(
        default=9464,
        alias="METRICS_PORT",
        title="Observability",
        description="The HTTP port of the metrics; 0 picks a free one.",
    )
    channelz_port: Port | None = Field(
        default=None,
        alias="CHANNELZ_PORT",
        title="Observability",
        description="A port on 127.0.0.1 where gRPC reports its connections and streams (channelz), without a key;"
        " unset: none.",
    )
    metrics_host: Annotated[str, AfterValidator(valid_host)] | None = Field(
        default=None,
        alias="METRICS_HOST",
        title="Observability",
        description="The address of the metrics, which need no authentication; unset: API_HOST.",
    )
    metrics_tenants_max: int = Field(
        default=20,
        alias="METRICS_TENANTS_MAX",
        title="Observability",
        description="The number of tenants with separate metrics, in order of first use; others share the name other.",
        ge=0,
        le=1000,
    )

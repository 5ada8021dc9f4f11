"""Tracing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent_service.config.values import valid_http_url
from agent_service.config.variables.field_types import Secret, Variables


class TracesVariables(Variables):
    """Tracing. The names are OpenTelemetry's if it has one. Its SDK reads further variables from the process's
    environment.
    """

    otel_traces_exporter: Literal["none", "otlp"] = Field(
        default="none",
        alias="OTEL_TRACES_EXPORTER",
        title="Traces",
        description="The exporter of traces: otlp sends them to a collector, which requires the extra"
        " agent-service[otlp]; none disables tracing.",
    )
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = Field(
        default="http/protobuf",
        alias="OTEL_EXPORTER_OTLP_PROTOCOL",
        title="Traces",
        description="The protocol between service and collector.",
    )
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(valid_http_url)] = Field(
        default="http://localhost:4318",
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        title="Traces",
        description="The collector's address, without /v1/traces.",
    )
    otel_exporter_otlp_headers: Secret | None = Field(
        default=None,
        alias="OTEL_EXPORTER_OTLP_HEADERS",
        title="Traces",
        description="Headers for the collector, such as its key: name=value,name=value, percent-encoded.",
    )
    otel_service_name: str = Field(
        default="agent-service",
        alias="OTEL_SERVICE_NAME",
        title="Traces",
        description="The name of this service in traces.",
        pattern=r"^[A-Za-z0-9._/-]{1,255}$",
    )
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        default="parentbased_traceidratio",
        alias="OTEL_TRACES_SAMPLER",
        title="Traces",
        description="The traces that are recorded: all, none, or the share OTEL_TRACES_SAMPLER_ARG. With parentbased, a"
        " trace begun by a caller is recorded if the caller records it.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1.0,
        alias="OTEL_TRACES_SAMPLER_ARG",
        title="Traces",
        description="The share of traces that is recorded by the two samplers named traceidratio.",
        ge=0,
        le=1,
        allow_inf_nan=False,
    )
    traces_content: bool = Field(
        default=False,
        alias="TRACES_CONTENT",
        title="Traces",
        description="Whether traces contain prompts, replies, and the arguments and results of tools.",
    )

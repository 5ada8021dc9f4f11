"""What is traced, and where traces go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from agent_service.config.values import valid_http_url
from agent_service.config.variables.field_types import Secret


class TracesVariables(BaseModel):
    """What is traced, and where traces go. The names are OpenTelemetry's where it has one; those of its variables that
    are not here are its SDK's, which reads them from the process's environment.
    """

    otel_traces_exporter: Literal["none", "otlp"] = Field(
        default="none",
        alias="OTEL_TRACES_EXPORTER",
        title="Traces",
        description="Where traces go: otlp to a collector, for which the extra agent-service[otlp] must be installed;"
        " none traces nothing.",
    )
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = Field(
        default="http/protobuf",
        alias="OTEL_EXPORTER_OTLP_PROTOCOL",
        title="Traces",
        description="How traces are sent to the collector.",
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
        description="Headers to send along, such as a collector's key: name=value,name=value, percent-encoded.",
    )
    otel_service_name: str = Field(
        default="agent-service",
        alias="OTEL_SERVICE_NAME",
        title="Traces",
        description="What traces call this service.",
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
        description="Which traces are recorded: all, none, or as many as OTEL_TRACES_SAMPLER_ARG says; with parentbased"
        " one that a caller began is recorded if the caller does.",
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
        description="Whether prompts, replies, and the arguments and results of tools stand in traces.",
    )

"""The address of the service, and API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent_service.config.values import valid_host
from agent_service.config.variables.field_types import Port, Secret, Variables


class ApiVariables(Variables):
    """The address of the service, and API keys."""

    api_key: Secret | None = Field(
        default=None,
        alias="API_KEY",
        title="API",
        description="The key that callers send. Production requires at least 32 characters (or API_KEYS_FILE);"
        " development creates a key if it is unset.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        alias="API_KEYS_FILE",
        title="API",
        description="A YAML file of hashed keys, each with its tenant and scopes; reloaded when it changes.",
    )
    api_host: Annotated[str, AfterValidator(valid_host)] = Field(
        default="0.0.0.0",  # noqa: S104 - the service must be reachable; every call needs a key
        alias="API_HOST",
        title="API",
        description="The address to listen on.",
    )
    api_port: Port = Field(
        default=9000, alias="API_PORT", title="API", description="The gRPC port; 0 picks a free one."
    )
    api_transport: Literal["aio", "loop"] = Field(
        default="loop",
        alias="API_TRANSPORT",
        title="API",
        description="How calls reach the event loop: loop takes them from gRPC's completion queue; aio is grpc.aio"
        " (docs/adr/0035).",
    )
    reflection_enabled: bool = Field(
        default=True,
        alias="REFLECTION_ENABLED",
        title="API",
        description="Whether tools such as grpcurl can read the contract by reflection, without a key.",
    )

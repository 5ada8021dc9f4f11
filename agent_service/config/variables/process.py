"""The process as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from agent_service.config.variables.field_types import Variables


class ServiceVariables(Variables):
    """The process as a whole."""

    environment: Literal["development", "production"] = Field(
        default="development",
        alias="AGENT_SERVICE_ENV",
        title="Service",
        description="Development creates what is missing (a key, a scripted model); production refuses to start.",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(lambda text: str(text).upper())
    ] = Field(
        default="INFO",
        alias="AGENT_SERVICE_LOG_LEVEL",
        title="Service",
        description="The least severe level that is logged: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
    )
    config_path: Path | None = Field(
        default=None,
        alias="AGENT_SERVICE_CONFIG_PATH",
        title="Service",
        description="The YAML file with models and agents; unset: ./config.yaml, or built-in agents if it does not"
        " exist.",
    )
    tasks_running_max: int = Field(
        default=1000,
        alias="TASKS_RUNNING_MAX",
        title="Service",
        description="The maximum number of tasks that this process runs at the same time; more wait or are rejected.",
        ge=1,
        le=100_000,
    )
    tool_threads_max: int = Field(
        default=64,
        alias="TOOL_THREADS_MAX",
        title="Service",
        description="The maximum number of threads for sync tools; one tenant, or one tool, uses at most half of them.",
        ge=2,
        le=1000,
    )
    task_length_max: int = Field(
        default=10_000,
        alias="TASK_LENGTH_MAX",
        title="Service",
        description="The maximum length of a task's text, in Unicode code points.",
        ge=1,
        le=500_000,  # at most 2 MB of UTF-8: it must fit a request, and every response that repeats it
    )
    drain_delay_s: float = Field(
        default=0.0,
        alias="DRAIN_DELAY",
        title="Service",
        description="Seconds from SIGTERM until new work is rejected: the time that load balancers need to react.",
        ge=0,
        le=600,
        allow_inf_nan=False,
    )
    drain_grace_s: float = Field(
        default=20.0,
        alias="DRAIN_GRACE",
        title="Service",
        description="Seconds within which running tasks may finish after that. Then they are interrupted, to be"
        " resumed later.",
        ge=0,
        le=3600,
        allow_inf_nan=False,
    )
    tasks_queued_max: int = Field(
        default=1000,
        alias="TASKS_QUEUED_MAX",
        title="Service",
        description="The maximum number of waiting tasks of one tenant; more are rejected.",
        ge=1,  # a task of a session enters the queue even if it can run at once
        le=1_000_000,
    )
    reattach_grace_s: float = Field(
        default=10.0,
        alias="REATTACH_GRACE",
        title="Service",
        description="Seconds that a task with a request_id continues after its last caller disconnected, because the"
        " caller may be repeating the call.",
        ge=0,
        le=300,
        allow_inf_nan=False,
    )

"""How the process works as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field


class ServiceVariables(BaseModel):
    """How the process works as a whole."""

    environment: Literal["development", "production"] = Field(
        default="development",
        alias="AGENT_SERVICE_ENV",
        title="Service",
        description="Development makes what is missing (a key, a scripted model); production refuses to start instead.",
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
        description="The YAML file with models and agents; unset, ./config.yaml, and without one built-in agents.",
    )
    tasks_running_max: int = Field(
        default=1000,
        alias="TASKS_RUNNING_MAX",
        title="Service",
        description="How many tasks this process works on at once; more of them wait or are refused.",
        ge=1,
        le=100_000,
    )
    tool_threads_max: int = Field(
        default=64,
        alias="TOOL_THREADS_MAX",
        title="Service",
        description="How many threads run sync tools at once; half of them at most for one tenant, or for one tool.",
        ge=2,
        le=1000,
    )
    task_length_max: int = Field(
        default=10_000,
        alias="TASK_LENGTH_MAX",
        title="Service",
        description="The longest text of a task, in Unicode code points.",
        ge=1,
        le=500_000,  # 2 MB of UTF-8 at worst: it must fit a request, and every answer that repeats it
    )
    drain_delay_s: float = Field(
        default=0.0,
        alias="DRAIN_DELAY",
        title="Service",
        description="Seconds from SIGTERM until new work is refused: the time that load balancers need to notice.",
        ge=0,
        le=600,
        allow_inf_nan=False,
    )
    drain_grace_s: float = Field(
        default=20.0,
        alias="DRAIN_GRACE",
        title="Service",
        description="Seconds that running tasks then have to finish before they are interrupted, to be resumed later.",
        ge=0,
        le=3600,
        allow_inf_nan=False,
    )
    tasks_queued_max: int = Field(
        default=1000,
        alias="TASKS_QUEUED_MAX",
        title="Service",
        description="Submitted tasks of one tenant that may wait for their turn; more are refused.",
        ge=1,  # a task of a session takes its place in line even where it can run at once
        le=1_000_000,
    )
    reattach_grace_s: float = Field(
        default=10.0,
        alias="REATTACH_GRACE",
        title="Service",
        description="Seconds that a task with a request_id runs on after its last caller went away, because the"
        " repetition of the call may be on its way.",
        ge=0,
        le=300,
        allow_inf_nan=False,
    )

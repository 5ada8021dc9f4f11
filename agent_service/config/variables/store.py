"""The store of tasks."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from agent_service.config.values import valid_database_url
from agent_service.config.variables.field_types import Variables


class StoreVariables(Variables):
    """The store of tasks."""

    database_url: Annotated[str, AfterValidator(valid_database_url)] = Field(
        default="sqlite:///agent_service.db",
        alias="DATABASE_URL",
        title="Store",
        description="The store of tasks: sqlite:///<path> (four slashes for an absolute path), or memory: for no"
        " persistence.",
    )
    worker_silence_s: float = Field(
        default=30.0,
        alias="WORKER_SILENCE",
        title="Store",
        description="Seconds without a heartbeat after which another process of the same store counts as frozen, and"
        " its tasks are resumed here. Must be equal in all processes of the store.",
        ge=5,
        le=3600,
        allow_inf_nan=False,
    )
    task_retention_days: float = Field(
        default=30.0,
        alias="TASK_RETENTION_DAYS",
        title="Store",
        description="Days after which finished tasks and their events are deleted; 0: never. With less than 1, a"
        " request_id is deleted with its task, before its 24 hours are over.",
        ge=0,
        le=36_500,
        allow_inf_nan=False,
    )

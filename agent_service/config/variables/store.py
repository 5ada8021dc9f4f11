"""Where tasks are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from agent_service.config.values import valid_database_url


class StoreVariables(BaseModel):
    """Where tasks are kept."""

    database_url: Annotated[str, AfterValidator(valid_database_url)] = Field(
        default="sqlite:///agent_service.db",
        alias="DATABASE_URL",
        title="Store",
        description="Where tasks are kept: sqlite:///<path> (four slashes for an absolute one), or memory: to keep"
        " nothing.",
    )
    worker_silence_s: float = Field(
        default=30.0,
        alias="WORKER_SILENCE",
        title="Store",
        description="Seconds without a sign of life after which another process of the same store is taken for frozen,"
        " and its tasks go on here. The same for all of them.",
        ge=5,
        le=3600,
        allow_inf_nan=False,
    )
    task_retention_days: float = Field(
        default=30.0,
        alias="TASK_RETENTION_DAYS",
        title="Store",
        description="Days that finished tasks are kept, with all that they did; 0 keeps them without end. With less"
        " than 1, a request_id is forgotten together with its task, before its 24 hours are over.",
        ge=0,
        le=36_500,
        allow_inf_nan=False,
    )

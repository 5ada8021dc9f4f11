"""Rate limits of callers."""

from __future__ import annotations

from pydantic import Field

from agent_service.config.variables.field_types import Variables


class LimitsVariables(Variables):
    """Rate limits of callers."""

    rate_limit_calls: int = Field(
        default=100,
        alias="RATE_LIMIT_CALLS",
        title="Rate limits",
        description="The maximum number of calls of each tenant in a window: the rule `default`, which the"
        " configuration file may replace.",
        ge=1,
        le=1_000_000_000,
    )
    rate_limit_tokens: int = Field(
        default=1_000_000,
        alias="RATE_LIMIT_TOKENS",
        title="Rate limits",
        description="The maximum number of model tokens of each tenant in a window.",
        ge=1,
        le=1_000_000_000_000,
    )
    rate_limit_window_s: float = Field(
        default=60.0,
        alias="RATE_LIMIT_WINDOW",
        title="Rate limits",
        description="The length of that window in seconds.",
        ge=1,
        le=86_400,
        allow_inf_nan=False,
    )
    auth_failures_max: int = Field(
        default=60,
        alias="AUTH_FAILURES_MAX",
        title="Rate limits",
        description="The maximum number of calls without a valid key from one address in that window. More are"
        " rejected after a delay; 0: no limit. Calls with a valid key are never affected.",
        ge=0,
        le=1_000_000_000,
    )

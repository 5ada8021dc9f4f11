"""How much callers may ask for."""

from __future__ import annotations

from pydantic import BaseModel, Field


class LimitsVariables(BaseModel):
    """How much callers may ask for."""

    rate_limit_calls: int = Field(
        default=100,
        alias="RATE_LIMIT_CALLS",
        title="Rate limits",
        description="Calls that each tenant may make in a window: the rule `default`, which the configuration file may"
        " replace.",
        ge=1,
        le=1_000_000_000,
    )
    rate_limit_tokens: int = Field(
        default=1_000_000,
        alias="RATE_LIMIT_TOKENS",
        title="Rate limits",
        description="Model tokens that each tenant may use in a window.",
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
        description="Calls without a valid key that one address may make in that window before further ones are"
        " refused with a delay; 0 counts none. Calls with a valid key always pass.",
        ge=0,
        le=1_000_000_000,
    )

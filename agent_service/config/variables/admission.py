"""Limits of concurrent calls, and the timeout of calls without a deadline."""

from __future__ import annotations

from pydantic import Field

from agent_service.config.variables.field_types import Variables


class AdmissionVariables(Variables):
    """Limits of concurrent calls, and the timeout of calls without a deadline."""

    call_timeout_s: float = Field(
        default=30.0,
        alias="CALL_TIMEOUT",
        title="Admission",
        description="Seconds within which a call must send its request, and then be answered if its caller set no"
        " deadline. Calls that stay open for a task end with the task.",
        ge=1,
        le=3600,
        allow_inf_nan=False,
    )
    calls_max: int = Field(
        default=1000,
        alias="CALLS_MAX",
        title="Admission",
        description="The maximum number of concurrent short calls, such as GetTask and CancelTask; more are rejected"
        " with OVERLOADED.",
        ge=1,
        le=1_000_000,
    )
    calls_per_key_max: int = Field(
        default=500,
        alias="CALLS_PER_KEY_MAX",
        title="Admission",
        description="The maximum number of concurrent short calls of one key; more are rejected with TOO_MANY_CALLS.",
        ge=1,
        le=1_000_000,
    )
    calls_per_peer_max: int = Field(
        default=500,
        alias="CALLS_PER_PEER_MAX",
        title="Admission",
        description="The maximum number of concurrent short calls from one address. Behind a proxy, set it to"
        " CALLS_MAX, because all calls come from one address.",
        ge=1,
        le=1_000_000,
    )
    open_calls_max: int = Field(
        default=4000,
        alias="OPEN_CALLS_MAX",
        title="Admission",
        description="The maximum number of concurrent calls that stay open for a task: RunTask, StreamTask, WatchTask,"
        " ToolInvoke.",
        ge=1,
        le=1_000_000,
    )
    open_calls_per_key_max: int = Field(
        default=2000,
        alias="OPEN_CALLS_PER_KEY_MAX",
        title="Admission",
        description="The maximum number of concurrent open calls of one key.",
        ge=1,
        le=1_000_000,
    )
    open_calls_per_peer_max: int = Field(
        default=2000,
        alias="OPEN_CALLS_PER_PEER_MAX",
        title="Admission",
        description="The maximum number of concurrent open calls from one address. Behind a proxy, set it to"
        " OPEN_CALLS_MAX.",
        ge=1,
        le=1_000_000,
    )
    public_calls_max: int = Field(
        default=200,
        alias="PUBLIC_CALLS_MAX",
        title="Admission",
        description="The maximum number of concurrent calls of health and reflection, which need no key. The same"
        " maximum applies separately to watchers of health.",
        ge=1,
        le=1_000_000,
    )
    public_calls_per_peer_max: int = Field(
        default=100,
        alias="PUBLIC_CALLS_PER_PEER_MAX",
        title="Admission",
        description="The maximum number of each from one address.",
        ge=1,
        le=1_000_000,
    )

"""How many calls may be under way at once, and how long those may take that set no deadline."""

from __future__ import annotations

from pydantic import BaseModel, Field


class AdmissionVariables(BaseModel):
    """How many calls may be under way at once, and how long those may take that set no deadline."""

    call_timeout_s: float = Field(
        default=30.0,
        alias="CALL_TIMEOUT",
        title="Admission",
        description="Seconds that a call has to send its request, and then to be answered if its caller set no"
        " deadline. Calls that stay open for a task end with it, however long it takes.",
        ge=1,
        le=3600,
        allow_inf_nan=False,
    )
    calls_max: int = Field(
        default=1000,
        alias="CALLS_MAX",
        title="Admission",
        description="Calls at once that are answered at once, such as GetTask and CancelTask; more are refused with"
        " OVERLOADED.",
        ge=1,
        le=1_000_000,
    )
    calls_per_key_max: int = Field(
        default=500,
        alias="CALLS_PER_KEY_MAX",
        title="Admission",
        description="How many of them may be of one key; more are refused with TOO_MANY_CALLS.",
        ge=1,
        le=1_000_000,
    )
    calls_per_peer_max: int = Field(
        default=500,
        alias="CALLS_PER_PEER_MAX",
        title="Admission",
        description="How many of them may come from one address; behind a proxy, where all do, as many as CALLS_MAX.",
        ge=1,
        le=1_000_000,
    )
    open_calls_max: int = Field(
        default=4000,
        alias="OPEN_CALLS_MAX",
        title="Admission",
        description="Calls at once that stay open for a task: RunTask, StreamTask, WatchTask, ToolInvoke.",
        ge=1,
        le=1_000_000,
    )
    open_calls_per_key_max: int = Field(
        default=2000,
        alias="OPEN_CALLS_PER_KEY_MAX",
        title="Admission",
        description="How many of them may be of one key.",
        ge=1,
        le=1_000_000,
    )
    open_calls_per_peer_max: int = Field(
        default=2000,
        alias="OPEN_CALLS_PER_PEER_MAX",
        title="Admission",
        description="How many of them may come from one address; behind a proxy, as many as OPEN_CALLS_MAX.",
        ge=1,
        le=1_000_000,
    )
    public_calls_max: int = Field(
        default=200,
        alias="PUBLIC_CALLS_MAX",
        title="Admission",
        description="Calls at once of health and reflection, which need no key; and as many watchers of health.",
        ge=1,
        le=1_000_000,
    )
    public_calls_per_peer_max: int = Field(
        default=100,
        alias="PUBLIC_CALLS_PER_PEER_MAX",
        title="Admission",
        description="How many of each may come from one address.",
        ge=1,
        le=1_000_000,
    )

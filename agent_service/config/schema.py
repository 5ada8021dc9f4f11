"""The configuration file: what it may say.

Strict: a setting that nobody knows is refused, and no text is taken for a number. What one entry must know of another
(an agent's model, say) is in `checks`. Beyond this file's types, see `docs/config.example.yaml`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from agent_service.config.values import is_variable, valid_http_url

Approval = Literal["always", "never", "side_effecting"]
API_KEY_ENV_DEFAULT = "OPENAI_API_KEY"

AgentKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
ModelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,128}$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=256)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Maximum = Annotated[int, Field(ge=1, le=1_000_000_000_000)]

_APPROVAL_OF_TOOLS: TypeAdapter[dict[str, Approval]] = TypeAdapter(dict[str, Approval])


def _one_or_many(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    # Left to itself, pydantic tells of each member of a union why the value is not that one, under paths of its own.
    if isinstance(value, dict):
        return _APPROVAL_OF_TOOLS.validate_python(value)
    if value is not None and value not in get_args(Approval):
        *most, last = map(repr, get_args(Approval))
        raise ValueError(f"must be {', '.join(most)} or {last}, or a mapping from tools to these")
    return handler(value)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Retry(_Strict):
    """How often a model is asked again: exponential back-off with full jitter."""

    attempts: int = Field(default=3, ge=1, le=10, description="Requests in all, the first included.")
    base_delay_s: float = Field(
        default=1.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="Upper bound of the first wait; it doubles with every try.",
    )
    max_delay_s: float = Field(default=8.0, ge=0, le=600, allow_inf_nan=False, description="Upper bound of every wait.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.base_delay_s > self.max_delay_s:
            raise ValueError("base_delay_s must not be above max_delay_s")
        return self


class Timeout(_Strict):
    """How long one request to a model may take. The task's deadline bounds it too."""

    total_s: Seconds = Field(default=120.0, description="Seconds for the whole reply.")
    first_token_s: Seconds = Field(default=60.0, description="Seconds until the first part of it.")
    idle_s: Seconds = Field(default=30.0, description="Seconds between two parts of it.")


class Model(_Strict):
    """A model that agents can name."""

    name: Name = Field(default="", description="What people call it; the key where it is not given.")
    provider: Literal["openai", "scripted"] = Field(
        description="`openai`: OpenAI, or a server that speaks its chat completions. `scripted`: a deterministic"
        " stand-in that needs no network."
    )
    model_id: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="",
        validate_default=True,
        description="What the provider calls it. Required but for the scripted model.",
    )
    temperature: float = Field(
        default=0.2,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="Randomness. The scripted model has none: no effect there.",
    )
    max_tokens: int = Field(default=1024, ge=1, le=1_000_000, description="The most tokens of one reply.")
    context_tokens: int = Field(
        default=8192,
        ge=1,
        le=100_000_000,
        description="The model's window, input and reply together: how much of a session it is shown.",
    )
    base_url: Annotated[str, AfterValidator(valid_http_url)] | None = Field(
        default=None, description="Where the provider listens; OpenAI where it is not given."
    )
    api_key_env: str | None = Field(
        default=None,
        description="The name of the environment variable with the provider's key. Not given: OPENAI_API_KEY, which"
        " need not be set where `base_url` is.",
    )
    script: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="A file that tells the scripted model what to say; relative to the configuration file.",
    )
    retry: Retry = Retry()
    timeout: Timeout = Timeout()

    @field_validator("model_id")
    @classmethod
    def _id(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("provider") == "openai":
            raise ValueError("is missing")
        return value

    @field_validator("base_url", "api_key_env")
    @classmethod
    def _openai_only(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("provider") == "scripted":
            raise ValueError("does not fit the provider scripted, which asks nobody")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        # What stands here by mistake is the key itself.
        if value is not None and not is_variable(value):
            raise ValueError("must be the name of an environment variable, in upper case")
        return value

    @field_validator("script")
    @classmethod
    def _scripted_only(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("provider") == "openai":
            raise ValueError("does not fit the provider openai; only scripted models have one")
        return value

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the provider's key."""
        return self.api_key_env or API_KEY_ENV_DEFAULT


class AgentLimits(_Strict):
    """Bounds of one task. Reaching the first or the second fails it."""

    turns: int = Field(default=10, ge=1, le=1000, description="Replies of the model.")
    tool_calls: int = Field(default=50, ge=0, le=10_000, description="Calls of tools, over all turns.")
    parallel_tools: int = Field(default=8, ge=1, le=100, description="Tools that run at one time.")


class Agent(_Strict):
    """A worker that tasks can be sent to."""

    model: Name = Field(description="The key of one of `models`.")
    description: Annotated[str, StringConstraints(max_length=1000)] = Field(
        default="", description="What it is for, as callers read it in ListAgents."
    )
    instructions: Annotated[str, StringConstraints(max_length=32_000)] = Field(
        default="", description="What the model reads before every task."
    )
    tools: tuple[ToolName, ...] = Field(
        default=(), strict=False, max_length=128, description="The tools that it may call, and no others."
    )
    limits: AgentLimits = AgentLimits()
    timeout_max_s: float = Field(
        default=3600.0, ge=1, le=3600, allow_inf_nan=False, description="The most seconds that a task may ask for."
    )
    timeout_s: float = Field(
        default=300.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="The seconds of a task that asks for none; not given, 300, or timeout_max_s if that is less.",
    )
    default: bool = Field(
        default=False,
        description="Takes the tasks that name no agent. Where none is marked, the first in the file does.",
    )
    class_path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=256)] | None = (
        Field(default=None, alias="class", description="`package.module:Class`; not given, the tool-using loop.")
    )
    approval: Annotated[Approval | dict[str, Approval] | None, WrapValidator(_one_or_many)] = Field(
        default=None,
        description="Which calls of its tools wait for somebody's approval: `always` all, `never` none,"
        " `side_effecting` those of side-effecting tools. One rule, or one for each tool that is named; where it says"
        " nothing of a tool, the tool's own rule holds.",
    )
    outcome_unknown: Literal["ask", "tell"] = Field(
        default="ask",
        description="Where a crash interrupted a side-effecting call: `ask` somebody what came of it, or `tell` the"
        " model that nobody knows.",
    )
    on_limit: Literal["wait", "fail"] = Field(
        default="wait",
        description="What a task does where a rate limit on model calls or tokens is full: `wait` for its turn, as long"
        " as its time allows, or `fail` at once.",
    )
    submitter_may_answer: bool = Field(
        default=True, description="Whether the key that submitted a task may answer what it asks for."
    )
    input_timeout_s: float = Field(
        default=86_400.0,
        ge=1,
        le=2_592_000,
        allow_inf_nan=False,
        description="The seconds that a task waits for an answer before it fails.",
    )
    session: Literal["enqueue", "reject"] = Field(
        default="enqueue",
        description="What a task meets whose session is busy: it waits for its turn, behind 10 others at most, or it is"
        " refused.",
    )

    def approval_rule(self, tool: str) -> Approval | None:
        """What the agent says of a tool, if it says anything."""
        return self.approval.get(tool) if isinstance(self.approval, dict) else self.approval

    @field_validator("timeout_s")
    @classmethod
    def _within(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("timeout_max_s", value):
            raise ValueError("must not be above timeout_max_s")
        return value

    @field_validator("tools")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must name each tool once")
        return value


class Match(_Strict):
    """What a rate limit is about: names, where `*` is any."""

    tenant: Name = "*"
    agent: Name = "*"
    model: Name = "*"


class RateLimit(_Strict):
    """How much may be used in any window of time. Of the maxima, at least one is given; the others do not bound."""

    name: Name = Field(description="As errors tell it. The name `default` replaces the rule of RATE_LIMIT_*.")
    match: Match = Match()
    per: tuple[Literal["tenant", "agent", "model"], ...] = Field(
        default=("tenant",),
        strict=False,
        max_length=3,
        description="Each of these gets a counter of its own; [] is one for all.",
    )
    max_calls: Maximum | None = Field(default=None, description="Calls that start work.")
    max_model_calls: Maximum | None = Field(default=None, description="Requests to models.")
    max_tokens: Maximum | None = Field(default=None, description="Tokens, of input and output together.")
    window_seconds: float = Field(
        default=60.0, ge=1, le=86_400, allow_inf_nan=False, description="The window's length."
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_calls is None and self.max_model_calls is None and self.max_tokens is None:
            raise ValueError("must have max_calls, max_model_calls or max_tokens")
        return self


class Tools(_Strict):
    """Where tools come from, beside the built-in ones."""

    modules: tuple[ModuleName, ...] = Field(
        default=(), strict=False, max_length=100, description="Python modules that declare tools with @tool."
    )


class File(_Strict):
    """The whole configuration file."""

    models: dict[ModelKey, Model] = Field(
        default={}, description="Required, unless LLM_PROVIDER, LLM_MODEL or LLM_BASE_URL define the model `default`."
    )
    agents: dict[AgentKey, Agent] = Field(min_length=1, description="By the name that callers use.")
    rate_limits: tuple[RateLimit, ...] = Field(
        default=(), strict=False, max_length=100, description="All that match must fit."
    )
    tools: Tools = Tools()

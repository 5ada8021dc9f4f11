"""The configuration file: what it may say.

Strict: a setting that nobody knows is refused, and no text is taken for a number. What one entry must know of another
(an agent's model, say) is in `checks`. Beyond this file's types, see `docs/config.example.yaml`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from agent_service.config.model_entry import Model, Name
from agent_service.config.model_parts import MoneyMaximum, Strict
from agent_service.text.ids import ID_PATTERN, MODEL_PATTERN

Approval = Literal["always", "never", "side_effecting"]

AgentKey = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
ModelKey = Annotated[str, StringConstraints(pattern=MODEL_PATTERN)]
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=256)]
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


class AgentLimits(Strict):
    """Bounds of one task. Reaching one of them fails it, but for `parallel_tools`."""

    turns: int = Field(default=10, ge=1, le=1000, description="Replies of the model.")
    tool_calls: int = Field(default=50, ge=0, le=10_000, description="Calls of tools, over all turns.")
    parallel_tools: int = Field(default=8, ge=1, le=100, description="Tools that run at one time.")
    tokens: Maximum | None = Field(
        default=None,
        description="Tokens, of input and output together. A request that might exceed it is not made; requests may ask"
        " for less.",
    )
    cost: MoneyMaximum | None = Field(
        default=None, description="The same for what they cost. Needs a price for the agent's model."
    )


class Agent(Strict):
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
        description="Gets the tasks that name no agent. If none is marked, the first in the file gets them.",
    )
    class_path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=256)] | None = (
        Field(default=None, alias="class", description="`package.module:Class`; not given, the tool-using loop.")
    )
    approval: Annotated[Approval | dict[str, Approval] | None, WrapValidator(_one_or_many)] = Field(
        default=None,
        description="Which calls of its tools wait for approval: `always` all, `never` none,"
        " `side_effecting` those of side-effecting tools. One rule, or one for each tool that is named; where it says"
        " nothing of a tool, the tool's own rule holds.",
    )
    outcome_unknown: Literal["ask", "tell"] = Field(
        default="ask",
        description="After a crash interrupted a side-effecting call: `ask` a person for its outcome, or `tell` the"
        " model that the outcome is unknown.",
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
    output_schema: dict[str, Any] | None = Field(
        default=None,
        description="A JSON Schema (draft 2020-12, type object) that answers must fit, where a task brings none.",
    )
    session: Literal["enqueue", "reject"] = Field(
        default="enqueue",
        description="What a task meets whose session is busy: it waits for its turn, behind 10 others at most, or it is"
        " refused.",
    )

    def approval_rule(self, tool: str) -> Approval | None:
        """Return what the agent says of a tool, if it says anything."""
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


class Match(Strict):
    """What a rate limit is about: names, where `*` is any."""

    tenant: Name = "*"
    agent: Name = "*"
    model: Name = "*"


class RateLimit(Strict):
    """How much may be used in any window of time. Of the maxima, at least one is given; the others do not bound."""

    name: Name = Field(
        description="As errors name it. The name `default` replaces the rule of RATE_LIMIT_*. So does, for the maxima"
        " that it has, any rule that matches everything and counts per tenant."
    )
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


class BudgetMatch(Strict):
    """What a budget applies to: a name, where `*` is any."""

    tenant: Name = "*"


class Budget(Strict):
    """How much may be used in a calendar day or month. Of the maxima, at least one is given."""

    name: Name = Field(description="As errors name it.")
    match: BudgetMatch = BudgetMatch()
    per: tuple[Literal["tenant"], ...] = Field(
        default=("tenant",),
        strict=False,
        max_length=1,
        description="Each tenant has a budget of its own; [] is one for all.",
    )
    period: Literal["day", "month"] = Field(default="month", description="The calendar's, UTC.")
    max_tokens: Maximum | None = Field(default=None, description="Tokens, of input and output together.")
    max_cost: MoneyMaximum | None = Field(default=None, description="What they cost. Needs a price for every model.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_tokens is None and self.max_cost is None:
            raise ValueError("must have max_tokens or max_cost")
        return self


class Tools(Strict):
    """Where tools come from, beside the built-in ones."""

    modules: tuple[ModuleName, ...] = Field(
        default=(), strict=False, max_length=100, description="Python modules that declare tools with @tool."
    )


class File(Strict):
    """The whole configuration file."""

    models: dict[ModelKey, Model] = Field(
        default={}, description="Required, unless LLM_PROVIDER, LLM_MODEL or LLM_BASE_URL define the model `default`."
    )
    agents: dict[AgentKey, Agent] = Field(min_length=1, description="By the name that callers use.")
    rate_limits: tuple[RateLimit, ...] = Field(
        default=(), strict=False, max_length=100, description="All that match must fit."
    )
    budgets: tuple[Budget, ...] = Field(
        default=(),
        strict=False,
        max_length=100,
        description="All that match must have room: one that is used up refuses new tasks, and a request to a model"
        " that might exceed one is not made, so its task fails.",
    )
    tools: Tools = Tools()

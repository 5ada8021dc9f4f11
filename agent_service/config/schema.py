"""The types of the configuration file.

Strict: unknown settings are rejected, and so is text in place of a number. Rules between entries, such as an agent's
model, are in `checks`. `docs/config.example.yaml` is an example.
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
    # By default pydantic reports an error for each member of a union, under separate paths.
    if isinstance(value, dict):
        return _APPROVAL_OF_TOOLS.validate_python(value)
    if value is not None and value not in get_args(Approval):
        *most, last = map(repr, get_args(Approval))
        raise ValueError(f"must be {', '.join(most)} or {last}, or a mapping from tools to these")
    return handler(value)


class AgentLimits(Strict):
    """Limits of one task. A task that reaches one of them fails, except `parallel_tools`."""

    turns: int = Field(default=10, ge=1, le=1000, description="The maximum number of replies of the model.")
    tool_calls: int = Field(
        default=50, ge=0, le=10_000, description="The maximum number of tool calls, over all turns."
    )
    parallel_tools: int = Field(
        default=8, ge=1, le=100, description="The maximum number of tools that run at the same time."
    )
    tokens: Maximum | None = Field(
        default=None,
        description="The maximum number of tokens, input and output together. A request that might exceed it is not"
        " sent. A task may set a lower value.",
    )
    cost: MoneyMaximum | None = Field(
        default=None, description="The maximum cost of these tokens. Requires a price of the agent's model."
    )


class Agent(Strict):
    """A worker that runs tasks."""

    model: Name = Field(description="The key of one of `models`.")
    description: Annotated[str, StringConstraints(max_length=1000)] = Field(
        default="", description="The purpose of the agent, shown by ListAgents."
    )
    instructions: Annotated[str, StringConstraints(max_length=32_000)] = Field(
        default="", description="The system prompt: sent to the model before every task."
    )
    tools: tuple[ToolName, ...] = Field(
        default=(), strict=False, max_length=128, description="The tools that the agent may call."
    )
    limits: AgentLimits = AgentLimits.model_construct()
    timeout_max_s: float = Field(
        default=3600.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="The maximum timeout, in seconds, that a task may set.",
    )
    timeout_s: float = Field(
        default=300.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="The timeout, in seconds, of a task that sets none. Default: 300, or timeout_max_s if less.",
    )
    default: bool = Field(
        default=False,
        description="Runs the tasks that name no agent. If no agent is the default, the first in the file is.",
    )
    class_path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=256)] | None = (
        Field(default=None, alias="class", description="`package.module:Class`. Default: the built-in tool loop.")
    )
    approval: Annotated[Approval | dict[str, Approval] | None, WrapValidator(_one_or_many)] = Field(
        default=None,
        description="The tool calls that wait for approval: `always` all, `never` none, `side_effecting` those of"
        " side-effecting tools. Either one rule, or a mapping from tools to rules; for other tools, the rule of the"
        " tool applies.",
    )
    outcome_unknown: Literal["ask", "tell"] = Field(
        default="ask",
        description="After a crash interrupted a side-effecting tool call: `ask` a person for its outcome, or `tell`"
        " the model that the outcome is unknown.",
    )
    on_limit: Literal["wait", "fail"] = Field(
        default="wait",
        description="The behaviour of a task when a rate limit on model calls or tokens is reached: `wait`, at most"
        " until the task's deadline, or `fail` at once.",
    )
    submitter_may_answer: bool = Field(
        default=True, description="Whether the key that submitted a task may answer its pending inputs."
    )
    input_timeout_s: float = Field(
        default=86_400.0,
        ge=1,
        le=2_592_000,
        allow_inf_nan=False,
        description="The maximum time, in seconds, that a task waits for an answer before it fails.",
    )
    output_schema: dict[str, Any] | None = Field(
        default=None,
        description="A JSON Schema (draft 2020-12, type object) that answers must fit, if the task sets none.",
    )
    session: Literal["enqueue", "reject"] = Field(
        default="enqueue",
        description="The handling of a task whose session is busy: `enqueue` lets it wait, behind at most 10 others,"
        " `reject` refuses it.",
    )

    def approval_rule(self, tool: str) -> Approval | None:
        """Return the agent's rule for a tool, or None."""
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
    """The work that a rate limit counts, by names; `*` matches all."""

    tenant: Name = "*"
    agent: Name = "*"
    model: Name = "*"


class RateLimit(Strict):
    """Limits use in a sliding window of time. At least one maximum is required; an omitted one does not limit."""

    name: Name = Field(
        description="The name shown in errors. The name `default` replaces the rule of RATE_LIMIT_*. A rule that"
        " matches everything and counts per tenant replaces it too, for the maxima that the rule sets."
    )
    match: Match = Match.model_construct()
    per: tuple[Literal["tenant", "agent", "model"], ...] = Field(
        default=("tenant",),
        strict=False,
        max_length=3,
        description="Each of these has a separate counter; [] means one counter for all.",
    )
    max_calls: Maximum | None = Field(default=None, description="The maximum number of calls that start work.")
    max_model_calls: Maximum | None = Field(default=None, description="The maximum number of requests to models.")
    max_tokens: Maximum | None = Field(
        default=None, description="The maximum number of tokens, input and output together."
    )
    window_seconds: float = Field(
        default=60.0, ge=1, le=86_400, allow_inf_nan=False, description="The length of the window in seconds."
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_calls is None and self.max_model_calls is None and self.max_tokens is None:
            raise ValueError("must have max_calls, max_model_calls or max_tokens")
        return self


class BudgetMatch(Strict):
    """The tenants that a budget applies to; `*` matches all."""

    tenant: Name = "*"


class Budget(Strict):
    """Limits use in a calendar day or month. At least one maximum is required."""

    name: Name = Field(description="The name shown in errors.")
    match: BudgetMatch = BudgetMatch.model_construct()
    per: tuple[Literal["tenant"], ...] = Field(
        default=("tenant",),
        strict=False,
        max_length=1,
        description="Each tenant has a separate budget; [] means one budget for all.",
    )
    period: Literal["day", "month"] = Field(default="month", description="The calendar day or month, in UTC.")
    max_tokens: Maximum | None = Field(
        default=None, description="The maximum number of tokens, input and output together."
    )
    max_cost: MoneyMaximum | None = Field(
        default=None, description="The maximum cost. Requires a price of every model."
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_tokens is None and self.max_cost is None:
            raise ValueError("must have max_tokens or max_cost")
        return self


class Tools(Strict):
    """Sources of tools, in addition to the built-in ones."""

    modules: tuple[ModuleName, ...] = Field(
        default=(), strict=False, max_length=100, description="Python modules that declare tools with @tool."
    )


class File(Strict):
    """The whole configuration file."""

    models: dict[ModelKey, Model] = Field(
        default={}, description="Required, unless LLM_PROVIDER, LLM_MODEL or LLM_BASE_URL defines the model `default`."
    )
    agents: dict[AgentKey, Agent] = Field(min_length=1, description="Keys are the names that callers use.")
    rate_limits: tuple[RateLimit, ...] = Field(
        default=(), strict=False, max_length=100, description="Work must fit all rules that match it."
    )
    budgets: tuple[Budget, ...] = Field(
        default=(),
        strict=False,
        max_length=100,
        description="Work must fit all budgets that match it. An exhausted budget rejects new tasks. A request to a"
        " model that might exceed a budget is not sent, and its task fails.",
    )
    tools: Tools = Tools.model_construct()

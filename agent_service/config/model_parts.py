"""What a model's entry in the configuration file is made of: its reasoning, price, tries and times, what it can do."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent_service.config.values import valid_money

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Money = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False), AfterValidator(valid_money)]
MoneyMaximum = Annotated[float, Field(gt=0, le=1_000_000_000, allow_inf_nan=False), AfterValidator(valid_money)]


class Strict(BaseModel):
    """Refuses what it does not know, and takes no text for a number."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Price(Strict):
    """What a million tokens cost, in the currency of one's choice: the same for all models. At most 9 decimals."""

    input: Money = Field(description="Tokens that the model reads. Required in a price; a model that is free has 0.")
    cached_input: Money | None = Field(
        default=None, description="Those of them that the provider has in its cache; not given, as `input`."
    )
    output: Money = Field(description="Tokens that the model writes, reasoning included. Required in a price.")


class Reasoning(Strict):
    """How a model reasons before it writes. Nothing is sent of what is not given."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="How much; not every model accepts each. Not given, the provider's default."
    )
    summary: Literal["auto", "concise", "detailed"] | None = Field(
        default=None,
        description="How detailed a summary of the reasoning is streamed while the model reasons. Not given: none is.",
    )
    pass_back: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether the provider gets its own reasoning back with the next request of the same task: `auto`"
        " where a provider is known to take it or asks for it, `always`, or `never`.",
    )


class Retry(Strict):
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

    circuit_patience_s: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds that a turn waits in all for a model whose circuit breaker is open, where no fallback is"
        " left to ask; 0 fails at once.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.base_delay_s > self.max_delay_s:
            raise ValueError("base_delay_s must not be above max_delay_s")
        return self


class Timeout(Strict):
    """How long one request to a model may take. The task's deadline bounds it too."""

    total_s: Seconds = Field(default=120.0, description="Seconds for the whole reply.")
    first_token_s: Seconds = Field(default=60.0, description="Seconds until the first part of it.")
    idle_s: Seconds = Field(default=30.0, description="Seconds between two parts of it.")


class Capabilities(Strict):
    """What the model can do. It is asked for nothing that it cannot."""

    tools: bool = Field(
        default=True,
        description="Calls tools. `false`: no agent with tools may name it; as a fallback it is shown no tools, and"
        " earlier calls and their results as text.",
    )
    parallel_tools: bool = Field(
        default=True,
        description="Calls several tools in one reply. `false`: it is asked for one at a time, and shown earlier ones"
        " one by one.",
    )
    json_schema: bool | None = Field(
        default=None,
        description="Keeps to a JSON Schema (`response_format` or `text.format`, strict). Not given: true at OpenAI and"
        " Azure but for their models of before August 2024, false at another `base_url` and for the scripted model.",
    )
    stream_usage: bool = Field(
        default=True,
        description="Accepts `stream_options`, to report the tokens that a streamed reply used. `false`: where it does"
        " not report them unasked, they are estimated.",
    )

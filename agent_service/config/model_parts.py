"""Parts of a model's entry in the configuration file: reasoning, price, retries, timeouts, capabilities."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent_service.config.values import valid_money

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Money = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False), AfterValidator(valid_money)]
MoneyMaximum = Annotated[float, Field(gt=0, le=1_000_000_000, allow_inf_nan=False), AfterValidator(valid_money)]


class Strict(BaseModel):
    """Rejects unknown settings, and text in place of a number."""

    # Validators are built at the first use, as a part of the whole; so defaults are constructed without one.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class Price(Strict):
    """The price of a million tokens, in a currency of your choice, the same for all models. At most 9 decimals."""

    input: Money = Field(description="Input tokens. Required in a price; 0 if the model is free.")
    cached_input: Money | None = Field(
        default=None, description="Input tokens from the provider's cache. Default: as `input`."
    )
    output: Money = Field(description="Output tokens, including reasoning. Required in a price.")


class Reasoning(Strict):
    """Settings of a model's reasoning. Only settings that are given are sent."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="The reasoning effort; not every model accepts each. Default: the provider's."
    )
    summary: Literal["auto", "concise", "detailed"] | None = Field(
        default=None,
        description="The detail of the summary that is streamed while the model reasons. Default: no summary.",
    )
    pass_back: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether the provider's reasoning is sent back with the next request of the same task: `auto`, if"
        " the provider is known to accept it or requires it, `always`, or `never`.",
    )


class Retry(Strict):
    """Retries of a request to a model: exponential back-off with full jitter."""

    attempts: int = Field(default=3, ge=1, le=10, description="Requests in total, including the first.")
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
        description="Seconds that a turn waits in total for a model whose circuit breaker is open, if no fallback is"
        " left; 0 fails at once.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.base_delay_s > self.max_delay_s:
            raise ValueError("base_delay_s must not be above max_delay_s")
        return self


class Timeout(Strict):
    """Time limits of one request to a model. The task's deadline also applies."""

    total_s: Seconds = Field(default=120.0, description="Seconds for the whole reply.")
    first_token_s: Seconds = Field(default=60.0, description="Seconds until the first part of it.")
    idle_s: Seconds = Field(default=30.0, description="Seconds between two parts of it.")


class Capabilities(Strict):
    """Features of the model. A feature that it lacks is not used."""

    tools: bool = Field(
        default=True,
        description="Supports tool calls. `false`: agents with tools cannot use it; as a fallback it receives no"
        " tools, and earlier calls and their results as text.",
    )
    parallel_tools: bool = Field(
        default=True,
        description="Supports several tool calls in one reply. `false`: one call per reply is requested, and earlier"
        " calls are sent one by one.",
    )
    json_schema: bool | None = Field(
        default=None,
        description="Follows a JSON Schema (`response_format` or `text.format`, strict). Default: true at OpenAI and"
        " Azure except for models from before August 2024, false at another `base_url` and for scripted models.",
    )
    stream_usage: bool = Field(
        default=True,
        description="Accepts `stream_options`, to report the tokens used by a streamed reply. `false`: if it does not"
        " report them by itself, they are estimated.",
    )

"""What a tool is.

A tool has a name, a description, a JSON Schema of its arguments and a declared side effect.
This module knows neither agents nor models; `registry` holds tools, `builtin` has some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent_service.errors import MESSAGE_BYTES_MAX, FieldViolation, ToolError
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING, ToolSideEffect

TIMEOUT_S_DEFAULT = 30.0
OUTPUT_BYTES_MAX = 256 * 1024

# Which calls wait for somebody's approval: all, none, those of tools that may change something at every run.
Approval = Literal["always", "never", "side_effecting"]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the call that it serves. A parameter annotated `ToolContext` receives it.

    `idempotency_key` is the same whenever the same call is run again: hand it on to whatever the tool changes.
    `traceparent` is the call's W3C trace context, empty if it is not traced: hand it on to whatever the tool calls.
    """

    tenant: str
    task_id: str
    tool_call_id: str
    traceparent: str = ""

    @property
    def idempotency_key(self) -> str:
        return f"{self.task_id}/{self.tool_call_id}"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its toolset lists it; the toolset runs it. Functions become one by `tools.decorator.tool`.

    `name` matches `^[a-z][a-z0-9_]{0,63}$`. `timeout_s` is how long one call may take, in seconds.
    `schema_digest` is the SHA-256 of the schema's text in lower-case hex: a task that runs on after a restart is
    refused a tool whose schema changed.
    `parse` turns the JSON text of the arguments into keyword arguments, or raises ToolArgumentsError naming every
    violation.
    `origin` says where it was declared (`package.module:function`), for people who look for it. `approval` says which
    calls wait for approval, where an agent has no rule of its own.
    """

    name: str
    description: str
    input_schema_json: str
    schema_digest: str
    side_effect: ToolSideEffect.ValueType
    timeout_s: float
    parse: Callable[[str], dict[str, Any]]
    origin: str = ""
    approval: Approval = "never"

    def needs_approval(self, rule: Approval | None = None) -> bool:
        """Whether its calls wait for approval: by its own rule, or by the one given."""
        rule = rule or self.approval
        if rule == "side_effecting":
            return self.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING
        return rule != "never"  # a rule that there is not, in a tool made by hand, must not let its calls through


class ToolArgumentsError(ToolError):
    """The arguments break the tool's schema, so it was never started. `violations` has every one of them.

    The message lists as many as a `Failure` has room for. Neither tells a value that was sent, unless a validator
    of the tool's author does.
    """

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__(_told(violations))
        self.violations = tuple(violations)


def _told(violations: Sequence[FieldViolation]) -> str:
    text = "the arguments break the tool's schema: "
    room = MESSAGE_BYTES_MAX - len("; and 1000000 more")
    for index, violation in enumerate(violations):
        item = f"{'; ' if index else ''}{violation.field}: {violation.description}"
        # The first is told however long it is: `Failure` cuts it.
        if index and len((text + item).encode()) > room:
            return f"{text}; and {len(violations) - index} more"
        text += item
    return text

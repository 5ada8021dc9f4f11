"""The tool as a value.

A tool has a name, a description, a JSON Schema of its arguments and a declared side effect.
Independent of agents and models. `registry` holds tools; `builtin` has the built-in ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent_service.errors import MESSAGE_BYTES_MAX, FieldViolation, ToolError
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING, ToolSideEffect

TIMEOUT_S_DEFAULT = 30.0
OUTPUT_BYTES_MAX = 256 * 1024

# The calls that wait for approval: all, none, or those of side-effecting tools, which may change something at every
# run.
Approval = Literal["always", "never", "side_effecting"]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The context of a tool call. A parameter annotated `ToolContext` receives it.

    `idempotency_key` is the same when the same call is run again: pass it to the system that the tool changes.
    `traceparent` is the call's W3C trace context, empty if it is not traced: pass it to the services that the tool
    calls.
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
    """A tool as listed by its toolset, which runs it. `tools.decorator.tool` makes one from a function.

    `name` matches `^[a-z][a-z0-9_]{0,63}$`. `timeout_s` is the maximum duration of one call in seconds. `schema_digest`
    is the SHA-256 of the schema's text in lower-case hex: a task that is resumed after a restart cannot use a tool
    whose schema changed. `parse` turns the JSON text of the arguments into keyword arguments, or raises
    ToolArgumentsError naming every violation. `origin` is the place of its declaration (`package.module:function`), for
    people. `approval` determines the calls that wait for approval, if the agent has no rule for the tool.
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
        """Return whether its calls wait for approval, by the given rule or else by its own."""
        rule = rule or self.approval
        if rule == "side_effecting":
            return self.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING
        return rule != "never"  # an unknown rule, in a tool built by hand, must not allow its calls


class ToolArgumentsError(ToolError):
    """The arguments violate the tool's schema, so it was not started. `violations` has all violations.

    The message lists as many as fit into a `Failure`. Neither contains a value that was sent, unless a validator of the
    tool's author includes it.
    """

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__(_message(violations))
        self.violations = tuple(violations)


def _message(violations: Sequence[FieldViolation]) -> str:
    text = "the arguments break the tool's schema: "
    room = MESSAGE_BYTES_MAX - len("; and 1000000 more")
    for index, violation in enumerate(violations):
        item = f"{'; ' if index else ''}{violation.field}: {violation.description}"
        # The first is always included: `Failure` truncates it.
        if index and len((text + item).encode()) > room:
            return f"{text}; and {len(violations) - index} more"
        text += item
    return text

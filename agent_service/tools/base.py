"""What a tool is.

A tool is a Python callable with a name, a description, a JSON Schema of its arguments and a declared side effect.
This module knows neither agents nor models; `registry` holds tools, `builtin` has some.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_service.v1.tool_pb2 import ToolSideEffect

TIMEOUT_S_DEFAULT = 30.0
OUTPUT_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the call that it serves. A parameter annotated `ToolContext` receives it.

    `idempotency_key` is the same whenever the same call is run again: hand it on to whatever the tool changes.
    """

    tenant: str
    task_id: str
    tool_call_id: str

    @property
    def idempotency_key(self) -> str:
        return f"{self.task_id}/{self.tool_call_id}"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, ready to be registered. Made by the `@tool` decorator (`tools.decorator`).

    `schema_digest` is the SHA-256 of the schema's text in lower-case hex: a task that runs on after a restart is refused a
    tool whose schema changed.
    `parse` turns the JSON text of the arguments into keyword arguments, or raises ToolError naming every violation.
    `call` runs it. `is_async` says whether `call` returns an awaitable; one that does not is run in a thread.
    """

    name: str
    description: str
    input_schema_json: str
    schema_digest: str
    side_effect: ToolSideEffect.ValueType
    timeout_s: float
    is_async: bool
    parse: Callable[[str], dict[str, Any]]
    call: Callable[[Mapping[str, Any], ToolContext], Awaitable[Any] | Any]

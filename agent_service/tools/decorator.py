"""`@tool`: makes a tool from a function.

    @tool(side_effect="read_only")
    async def weather(city: Annotated[str, Field(description="An English name.")], days: int = 1) -> Forecast:
        \"\"\"The weather forecast of a city.\"\"\"

`arguments` reads the signatures of functions, `registry` collects tools, `runner` runs them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, get_args, overload

from agent_service.errors import ConfigError
from agent_service.tools.arguments import Arguments
from agent_service.tools.base import TIMEOUT_S_DEFAULT, Approval, Tool, ToolContext
from agent_service.v1 import tool_pb2

P = ParamSpec("P")
R = TypeVar("R")

SideEffect = Literal["read_only", "idempotent", "side_effecting"]

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
SIDE_EFFECTS: Mapping[str, tool_pb2.ToolSideEffect.ValueType] = MappingProxyType(
    {
        "read_only": tool_pb2.TOOL_SIDE_EFFECT_READ_ONLY,
        "idempotent": tool_pb2.TOOL_SIDE_EFFECT_IDEMPOTENT,
        "side_effecting": tool_pb2.TOOL_SIDE_EFFECT_SIDE_EFFECTING,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTool(Tool, Generic[P, R]):
    """A tool made from a function. Calling it calls the function, without checks: `assert add(1, 2) == 3`.

    `call` runs it. `is_async` is true if `call` returns an awaitable; other functions run in a thread.
    """

    function: Callable[P, R]
    is_async: bool
    call: Callable[[Mapping[str, Any], ToolContext], Awaitable[Any] | Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


# A tool made from any function.
AnyFunctionTool = FunctionTool[..., Any]


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    side_effect: SideEffect = "side_effecting",
    timeout_s: float = TIMEOUT_S_DEFAULT,
    description: str | None = None,
    approval: Approval = "never",
) -> FunctionTool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    side_effect: SideEffect = "side_effecting",
    timeout_s: float = TIMEOUT_S_DEFAULT,
    description: str | None = None,
    approval: Approval = "never",
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    side_effect: SideEffect = "side_effecting",
    timeout_s: float = TIMEOUT_S_DEFAULT,
    description: str | None = None,
    approval: Approval = "never",
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a tool from a sync or async function: `@tool`, `@tool(timeout_s=5)`, or `tool(client.search,
    name="search")`.

    Every parameter needs a type that pydantic can express as JSON Schema; set bounds and descriptions with
    `Annotated[..., Field(...)]`. A parameter annotated `ToolContext` receives the call's context and is not an
    argument. `name` (default: the function's) and `description` (default: the docstring) are sent to models.
    `side_effect` determines whether the tool may be run again if its outcome is unknown. `timeout_s` limits one call,
    in seconds. `approval` determines the calls that wait for approval, if the agent's configuration does not.

    Raises:
        ConfigError: the function cannot be a tool; all problems at once.
    """
    declare = functools.partial(
        _declare,
        name=name,
        side_effect=side_effect,
        timeout_s=timeout_s,
        description=description,
        approval=approval,
    )
    return declare if function is None else declare(function)


def _declare(
    function: Callable[P, R],
    *,
    name: str | None,
    side_effect: str,
    timeout_s: float,
    description: str | None,
    approval: Approval,
) -> FunctionTool[P, R]:
    plain = _without_partial(function)
    name = getattr(plain, "__name__", "") if name is None else name
    description = inspect.cleandoc((plain.__doc__ or "") if description is None else description)
    problems = _problems(plain, name, side_effect, timeout_s, description)
    if approval not in get_args(Approval):
        problems.append(f"approval must be one of {', '.join(get_args(Approval))}")
    try:
        arguments = Arguments(function)
    except ConfigError as error:
        problems += error.problems
    origin = f"{getattr(plain, '__module__', '?')}:{getattr(plain, '__qualname__', type(plain).__qualname__)}"
    if problems:
        raise ConfigError([f"tool {name!r} ({origin}): {problem}" for problem in problems])
    return FunctionTool(
        name=name,
        description=description,
        input_schema_json=arguments.schema_json,
        schema_digest=hashlib.sha256(arguments.schema_json.encode()).hexdigest(),
        side_effect=SIDE_EFFECTS[side_effect],
        timeout_s=float(timeout_s),
        is_async=_is_async(plain),
        parse=arguments.parse,
        call=_caller(function, arguments.context_names),
        origin=origin,
        approval=approval,
        function=function,
    )


def _problems(plain: Callable[..., Any], name: str, side_effect: str, timeout_s: float, description: str) -> list[str]:
    problems = []
    if not NAME.fullmatch(name):
        problems.append(f"its name must match ^{NAME.pattern}$")
    if not description:
        problems.append("it has no description: write a docstring or give description=")
    if side_effect not in SIDE_EFFECTS:
        problems.append(f"side_effect must be one of {', '.join(SIDE_EFFECTS)}")
    if not (timeout_s > 0 and math.isfinite(timeout_s)):
        problems.append("timeout_s must be a number of seconds above 0")
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        problems.append("it is a generator: a tool returns its whole result")
    return problems


def _caller(
    function: Callable[..., Any], context_names: tuple[str, ...]
) -> Callable[[Mapping[str, Any], ToolContext], Any]:
    if not context_names:
        return lambda arguments, context: function(**arguments)
    return lambda arguments, context: function(**arguments, **dict.fromkeys(context_names, context))


def _without_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside partials, which have neither a name nor a docstring."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _is_async(plain: Callable[..., Any]) -> bool:
    # The second condition is for objects with an async `__call__`.
    return inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(type(plain).__call__)

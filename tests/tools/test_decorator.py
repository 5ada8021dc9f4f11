import dataclasses
import functools
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent_service.errors import ConfigError
from agent_service.tools.base import TIMEOUT_S_DEFAULT, Approval, ToolContext
from agent_service.tools.decorator import SideEffect, tool
from agent_service.v1 import tool_pb2


def add(left: int, right: int = 1) -> int:
    """Add two numbers.

    Nothing else.
    """
    return left + right


def problems(function: Callable[..., Any], **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        tool(function, **options)
    assert all(problem.startswith("tool ") for problem in caught.value.problems)
    return "\n".join(caught.value.problems)


def test_a_bare_decorator_takes_everything_from_the_function() -> None:
    made = tool(add)
    assert made.name == "add"
    assert made.description == "Add two numbers.\n\nNothing else."
    assert made.side_effect == tool_pb2.TOOL_SIDE_EFFECT_SIDE_EFFECTING
    assert made.timeout_s == TIMEOUT_S_DEFAULT
    assert made.origin.endswith("test_decorator:add")
    assert not made.is_async


def test_options_say_otherwise() -> None:
    @tool(name="sum_up", side_effect="idempotent", timeout_s=5, description="Sums.")
    def add_up(left: int) -> int:
        return left

    assert (add_up.name, add_up.description, add_up.timeout_s) == ("sum_up", "Sums.", 5.0)
    assert add_up.side_effect == tool_pb2.TOOL_SIDE_EFFECT_IDEMPOTENT


def test_a_tool_is_called_like_its_function() -> None:
    assert tool(add)(2, right=3) == 5


async def test_an_async_tool_is_awaited_like_its_function() -> None:
    @tool
    async def double(number: int) -> int:
        """Double."""
        return 2 * number

    assert double.is_async
    assert await double(4) == 8


def test_the_digest_is_that_of_the_schemas_text() -> None:
    made = tool(add)
    assert made.schema_digest == hashlib.sha256(made.input_schema_json.encode()).hexdigest()


def test_a_context_is_handed_to_the_parameter_that_asks_for_it(context: ToolContext) -> None:
    @tool
    def who(text: str, call: ToolContext) -> str:
        """Who."""
        return f"{text} {call.idempotency_key}"

    assert who.call(who.parse('{"text": "it is"}'), context) == "it is task-1/call-1"


def test_methods_partials_and_objects_become_tools(context: ToolContext) -> None:
    class Counter:
        def __init__(self) -> None:
            self.total = 10

        def count(self, by: int) -> int:
            """Count."""
            self.total += by
            return self.total

        async def __call__(self, by: int) -> int:
            """Count later."""
            return self.total + by

    method = tool(Counter().count)
    assert method.call(method.parse('{"by": 2}'), context) == 12
    partial = tool(functools.partial(add, right=40))
    assert partial.name == "add"
    assert partial.call(partial.parse('{"left": 2}'), context) == 42
    assert tool(Counter(), name="later", description="Count.").is_async


def test_a_copy_with_less_time_is_the_same_tool_otherwise() -> None:
    made = tool(add)
    assert dataclasses.replace(made, timeout_s=1.0)(1, 1) == 2


@pytest.mark.parametrize("name", ["", "Add", "1st", "a-b", "a" * 65, "add\n", "ä"])
def test_a_name_that_the_contract_forbids_is_refused(name: str) -> None:
    assert "its name must match ^[a-z][a-z0-9_]{0,63}$" in problems(add, name=name)


def test_a_lambda_needs_a_name_a_description_and_annotations() -> None:
    told = problems(lambda text: text)
    assert "its name must match" in told
    assert "it has no description" in told
    assert "parameter 'text' has no annotation" in told


def test_parameters_that_cannot_be_named_are_refused_one_by_one() -> None:
    def odd(first: int, /, *rest: int, **others: int) -> None:
        """Odd."""

    told = problems(odd)
    assert "parameter 'first' is positional-only" in told
    assert "parameter 'rest' is variadic positional" in told
    assert "parameter 'others' is variadic keyword" in told


def test_types_that_have_no_schema_are_refused() -> None:
    class Opaque:
        pass

    def opaque(thing: Opaque) -> None:
        """Opaque."""

    def callback(back: Callable[[], None]) -> None:
        """Callback."""

    assert "Opaque" in problems(opaque)
    assert "a parameter's type is not usable" in problems(callback)


def test_annotations_that_cannot_be_resolved_are_refused() -> None:
    def lost(thing: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821
        """Lost."""

    assert "name 'Missing' is not defined" in problems(lost)


def test_generators_are_refused() -> None:
    async def stream(count: int) -> AsyncIterator[int]:
        """Stream."""
        yield count

    assert "it is a generator" in problems(stream)


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_timeout_must_be_a_time(timeout_s: float) -> None:
    assert "timeout_s must be" in problems(add, timeout_s=timeout_s)


def test_an_unknown_side_effect_is_refused() -> None:
    assert "side_effect must be one of read_only, idempotent, side_effecting" in problems(add, side_effect="none")


@pytest.mark.parametrize(
    ("approval", "side_effect", "waits"),
    [
        ("never", "side_effecting", False),
        ("always", "read_only", True),
        ("side_effecting", "read_only", False),
        ("side_effecting", "idempotent", False),
        ("side_effecting", "side_effecting", True),
    ],
)
def test_its_rule_and_its_side_effect_say_whether_calls_wait_for_approval(
    approval: Approval, side_effect: SideEffect, waits: bool
) -> None:
    made = tool(add, approval=approval, side_effect=side_effect)
    assert made.approval == approval
    assert made.needs_approval() is waits


def test_calls_wait_for_no_approval_where_nothing_says_so() -> None:
    assert not tool(add).needs_approval()


def test_a_rule_of_somebody_else_wins_over_its_own() -> None:
    assert tool(add).needs_approval("side_effecting")
    assert not tool(add, approval="always").needs_approval("never")


def test_an_unknown_approval_is_refused_with_what_else_is_wrong() -> None:
    told = problems(add, approval="sometimes", timeout_s=0)
    assert "approval must be one of always, never, side_effecting" in told
    assert "timeout_s must be" in told


def test_a_rule_that_there_is_not_lets_no_call_through() -> None:
    made = dataclasses.replace(tool(add), approval="Always")  # type: ignore[arg-type] # as a careless author would
    assert made.needs_approval()


def test_a_tool_without_arguments_takes_an_empty_object() -> None:
    @tool
    def ping() -> str:
        """Ping."""
        return "pong"

    assert json.loads(ping.input_schema_json) == {"type": "object", "properties": {}, "additionalProperties": False}
    assert ping.parse("") == {}

import json
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from agent_service.errors import ToolError
from agent_service.tools.base import ToolArgumentsError, ToolContext
from agent_service.tools.decorator import tool
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_FAILED


class Color(Enum):
    RED = "red"


class Place(BaseModel):
    city: str
    population: int = Field(default=1, ge=1)


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def refuse_odd(number: int) -> int:
    if number % 2:
        raise ValueError("must be even")
    return number


def fail(number: int) -> int:
    raise LookupError("secret")


def read_place(text: str) -> Place:
    return Place.model_validate_json(text)


def say_no(number: int) -> int:
    raise ToolError("not today")


@tool
def trip(
    place: Place,
    days: Annotated[int, Field(description="How long.", ge=1, le=30)] = 7,
    budget: float = 0.5,
    tags: list[str] = [],  # noqa: B006 - pydantic copies it
    extra: Any = None,
    context: ToolContext | None = None,
) -> None:
    """Plan a trip."""


def violations(text: str) -> dict[str, str]:
    with pytest.raises(ToolArgumentsError) as caught:
        trip.parse(text)
    assert caught.value.reason == ERROR_REASON_TOOL_FAILED
    told = {violation.field: violation.description for violation in caught.value.violations}
    assert all(f"{field}: {description}" in caught.value.message for field, description in told.items())
    return told


def test_the_schema_comes_from_the_type_hints_and_says_nothing_else() -> None:
    @tool
    def search(query: str, limit: Annotated[int, Field(description="At most.", ge=1, le=9)] = 3) -> None:
        """Search."""

    assert json.loads(search.input_schema_json) == {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "description": "At most.", "minimum": 1, "maximum": 9, "default": 3},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_the_schema_is_canonical_text() -> None:
    schema = json.loads(trip.input_schema_json)
    assert trip.input_schema_json == json.dumps(schema, sort_keys=True, separators=(",", ":"))


def test_the_context_is_no_argument() -> None:
    assert "context" not in json.loads(trip.input_schema_json)["properties"]
    assert "context" in violations('{"place": {"city": "Ulm"}, "context": null}')


def test_arguments_arrive_in_their_declared_types_with_defaults_filled_in() -> None:
    parsed = trip.parse('{"place": {"city": "Ulm"}, "days": "14", "tags": ["a"], "extra": 123456789012345678901}')
    assert parsed == {
        "place": Place(city="Ulm"),
        "days": 14,
        "budget": 0.5,
        "tags": ["a"],
        "extra": 123456789012345678901,
    }
    assert type(parsed["days"]) is int


@pytest.mark.parametrize("text", ["", "  \n", "{}"])
def test_text_without_anything_in_it_is_an_empty_object(text: str) -> None:
    @tool
    def ping(count: int = 1) -> None:
        """Ping."""

    assert ping.parse(text) == {"count": 1}


def test_each_call_gets_a_default_of_its_own() -> None:
    first = trip.parse('{"place": {"city": "Ulm"}}')
    first["tags"].append("changed")
    assert trip.parse('{"place": {"city": "Ulm"}}')["tags"] == []


def test_richer_types_are_read_from_json() -> None:
    @tool
    def rich(day: date, price: Decimal, color: Color, pair: tuple[int, str], pet: Pet) -> None:
        """Rich."""

    assert rich.parse(
        '{"day": "2026-03-01", "price": "1.50", "color": "red", "pair": [1, "x"], "pet": {"kind": "dog"}}'
    ) == {
        "day": date(2026, 3, 1),
        "price": Decimal("1.50"),
        "color": Color.RED,
        "pair": (1, "x"),
        "pet": Dog(kind="dog"),
    }


def test_all_violations_are_told_together_with_their_paths() -> None:
    told = violations('{"place": {"population": 0}, "days": 31, "tags": ["a", 5], "colour": 1}')
    assert told == {
        "place.city": "is required",
        "place.population": "must be at least 1",
        "days": "must be at most 30",
        "tags[1]": "must be text",
        "colour": "is not an argument; arguments: place, days, budget, tags, extra",
    }


def test_a_value_that_was_sent_is_never_told_back() -> None:
    @tool
    def adopt(
        pet: Pet,
        age: int,
        even: Annotated[int, AfterValidator(refuse_odd)],
        day: date,
        home: Annotated[str, AfterValidator(read_place)],
    ) -> None:
        """Adopt."""

    with pytest.raises(ToolArgumentsError) as caught:
        adopt.parse('{"pet": {"kind": "s3cret"}, "age": "s3cret", "even": 77177, "day": "s3cret", "home": "s3cret"}')
    assert "pet: its 'kind' must be one of 'cat', 'dog'" in caught.value.message
    assert "even: must be even" in caught.value.message
    assert "s3cret" not in caught.value.message
    assert "77177" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ('{"days": ', "is not valid JSON"),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        ('{"place": {"city": "Ulm"}, "extra": NaN}', "is not valid JSON, NaN and Infinity are not"),
        ('{"place": {"city": "Ulm"}, "extra": [-Infinity]}', "is not valid JSON, NaN and Infinity are not"),
        ('{"extra": ' + "[" * 1000 + "]" * 1000 + "}", "is not valid JSON: recursion limit exceeded"),
        ('{"extra": ' + "9" * 10_000 + "}", "is not valid JSON: number out of range"),
    ],
)
def test_text_that_is_no_json_object_is_refused(text: str, description: str) -> None:
    assert violations(text)["arguments"].startswith(description)


def test_a_number_beyond_all_floats_is_refused() -> None:
    assert violations('{"place": {"city": "Ulm"}, "budget": 1e999}') == {"budget": "must be a finite number"}


def test_strings_may_speak_of_infinity() -> None:
    assert trip.parse('{"place": {"city": "Infinity or NaN"}}')["place"] == Place(city="Infinity or NaN")


def test_odd_keys_are_told_quoted_and_cut() -> None:
    told = violations('{"place": {"city": "Ulm"}, "a b": 1, "' + "x" * 5000 + '": 2}')
    assert set(told) == {'["a b"]', '["' + "x" * 40 + '"]'}


def test_more_violations_than_a_failure_has_room_for_are_counted() -> None:
    with pytest.raises(ToolArgumentsError) as caught:
        trip.parse(json.dumps({"place": {"city": "Ulm"}, "tags": list(range(1000))}))
    assert len(caught.value.violations) == 1000
    assert caught.value.message.endswith(" more")
    assert caught.value.as_failure().message == caught.value.message


def test_parameters_may_have_the_names_of_pydantics_own_methods() -> None:
    @tool
    def odd(copy: int, schema: int, model_config: int, _hidden: int = 4, arg_x: int = 5) -> None:
        """Odd names."""

    text = '{"copy": 1, "schema": 2, "model_config": 3}'
    assert odd.parse(text) == {"copy": 1, "schema": 2, "model_config": 3, "_hidden": 4, "arg_x": 5}


def test_an_alias_gives_an_argument_a_name_that_python_forbids() -> None:
    @tool
    def fly(origin: Annotated[str, Field(alias="from")]) -> None:
        """Fly."""

    assert fly.parse('{"from": "ULM"}') == {"origin": "ULM"}


def test_a_default_that_json_cannot_express_stays_out_of_the_schema() -> None:
    nothing = object()

    @tool
    def quiet(limit: Any = nothing) -> None:
        """Quiet."""

    assert json.loads(quiet.input_schema_json)["properties"] == {"limit": {}}
    assert quiet.parse("{}") == {"limit": nothing}


def test_a_validator_that_fails_is_told_by_its_kind_alone() -> None:
    @tool
    def broken(number: Annotated[int, AfterValidator(fail)]) -> None:
        """Broken."""

    with pytest.raises(ToolError, match=r"^the arguments could not be checked: LookupError$"):
        broken.parse('{"number": 1}')


def test_a_validator_may_speak_to_the_model() -> None:
    @tool
    def closed(number: Annotated[int, AfterValidator(say_no)]) -> None:
        """Closed."""

    with pytest.raises(ToolError, match=r"^not today$"):
        closed.parse('{"number": 1}')


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1E+0400", "1" * 310 + ".0", "10000e305", "1e999999999999"])
def test_a_number_that_no_double_holds_reaches_no_tool(number: str) -> None:
    def take(value: Any = None, values: list[Any] | None = None, ratio: float = 0.0) -> None:
        """Takes anything."""

    arguments = tool(side_effect="read_only")(take)
    for text in (f'{{"value": {number}}}', f'{{"values": [{{"x": {number}}}]}}', f'{{"ratio": {number}}}'):
        with pytest.raises(ToolArgumentsError):
            arguments.parse(text)


def test_large_numbers_that_a_double_holds_and_long_texts_of_digits_are_taken() -> None:
    def take(value: Any) -> None:
        """Takes anything."""

    text = "1e400 " + "9" * 400
    assert tool(side_effect="read_only")(take).parse(json.dumps({"value": [1e308, 1e-400, 10**250, text]})) == {
        "value": [1e308, 0.0, 10**250, text]
    }
